"""docs/params.schema.json: what editors know of params.yaml is what the pipeline accepts."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.adoption import params_file
from pipeline.adoption.bounds import Choice
from pipeline.core.errors import InvalidParamsError
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.monitoring import extra_entry
from pipeline.promotion import retraining
from tests.conftest import edit_params
from tests.imports import ROOT

FIRST_LINE = "# yaml-language-server: $schema=docs/params.schema.json"
SCHEMA = ROOT / FIRST_LINE.partition("=")[2]


@pytest.fixture
def params(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    return path


def checked(path: Path) -> "subprocess.CompletedProcess[str]":
    command = [Path(sys.executable).with_name("check-jsonschema"), "--schemafile", str(SCHEMA), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_schema_is_current() -> None:
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == Params.model_json_schema(), "run `make schema`"


def test_params_yaml_names_the_schema_and_satisfies_it() -> None:
    assert (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()[0] == FIRST_LINE

    done = checked(ROOT / "params.yaml")

    assert done.returncode == 0, done.stdout


def test_numbers_are_written_as_editors_read_them() -> None:
    """YAML 1.2 takes 4_000 as text; editors would mark it."""
    values = [line.partition("#")[0] for line in (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()]

    assert [value for value in values if any(part.replace("_", "").isdigit() and "_" in part for part in value.split())] == []


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"train.epoch": 3}, "('epoch' was unexpected)"),
        ({"train.epochs": "many"}, "$.train.epochs: 'many' is not of type 'integer'"),
        ({"model.hidden_units": [256, 0]}, "$.model.hidden_units: [256, 0] is not valid"),
        ({"validate.extra.intensity_divergence": 0}, "$.validate.extra.intensity_divergence: 0 is less than or equal to"),
        ({"promote.require": "better"}, "$.promote.require: 'better' is not one of ['non_inferior', 'superior']"),
    ],
)
def test_a_wrong_key_or_value_does_not_satisfy_it(changes: dict[str, Any], found: str, params: Path) -> None:
    with pytest.raises(InvalidParamsError):
        edit_params(params, changes)

    done = checked(params)

    assert done.returncode == 1
    assert found in done.stdout


def test_one_hidden_layer_may_be_a_number(params: Path) -> None:
    edit_params(params, {"model.hidden_units": 512})

    assert checked(params).returncode == 0


def test_commands_that_edit_params_yaml_keep_the_line(params: Path) -> None:
    edited = params_file.edited(params.read_text(encoding="utf-8"), [Choice("train.epochs", 3, "few images")])
    params.write_text(edited, encoding="utf-8")
    extra_entry.append(params, {"name": "a", "source": "a.npz", "kind": "recent"})
    retraining.set_seed(Paths(params.parent), 7)

    text = params.read_text(encoding="utf-8")
    assert text.splitlines()[0] == FIRST_LINE
    assert {"  epochs: 3  # adopted: few images", "  seed: 7"} <= set(text.splitlines())
    assert checked(params).returncode == 0
