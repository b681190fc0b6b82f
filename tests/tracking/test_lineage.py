from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.core import params
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.tracking import lineage
from tests.imports import ROOT

STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
# Rooms that train and export import, but that decide neither weights nor graph.
REPORTING = {"pipeline/core", "pipeline/tracking"}


@pytest.fixture
def chosen() -> Params:
    return params.load(ROOT / "params.yaml")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path)


def libraries(stage: dict[str, Any]) -> set[str]:
    (named,) = (entry["requirements/versions.yaml"] for entry in stage["params"] if isinstance(entry, dict))
    return set(named)


def test_a_lineage_covers_the_code_and_the_libraries_of_train_and_export() -> None:
    code = {dep for name in ("train", "export") for dep in STAGES[name]["deps"] if dep.startswith("pipeline/")}

    assert {f"pipeline/{name}" for name in lineage.CODE} == code - REPORTING
    assert set(lineage.LIBRARIES) == libraries(STAGES["train"]) | libraries(STAGES["export"])


def test_another_seed_is_the_same_lineage(chosen: Params, paths: Paths) -> None:
    other = chosen.model_copy(update={"train": chosen.train.model_copy(update={"seed": 7})})

    assert lineage.digest("data", other, paths) == lineage.digest("data", chosen, paths)


def test_other_data_parameters_network_or_libraries_are_another_lineage(chosen: Params, paths: Paths) -> None:
    longer = chosen.model_copy(update={"train": chosen.train.model_copy(update={"epochs": 7})})
    wider = chosen.model_copy(update={"model": chosen.model.model_copy(update={"hidden_units": (7,)})})

    digests = [lineage.digest("data", chosen, paths), lineage.digest("more data", chosen, paths)]
    digests += [lineage.digest("data", changed, paths) for changed in (longer, wider)]
    paths.versions.parent.mkdir()
    paths.versions.write_text('tensorflow: "2.21.0"\n')
    digests.append(lineage.digest("data", chosen, paths))
    paths.versions.write_text('tensorflow: "2.22.0"\n')
    digests.append(lineage.digest("data", chosen, paths))

    assert len(set(digests)) == 6
