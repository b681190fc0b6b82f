import copy
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from ruamel.yaml import YAML

from pipeline.core import params as parameters
from pipeline.core.errors import InvalidParamsError
from tests.conftest import Edit
from tests.imports import ROOT

EXTRA = {"name": "a", "source": "a.npz"}


def refusal(edit: Edit, changes: dict[str, Any]) -> str:
    """The problems that the error about params.yaml with `changes` lists, without path and advice."""
    with pytest.raises(InvalidParamsError) as refusal:
        edit(changes)
    first, advice = str(refusal.value).splitlines()
    path, _, problems = first.partition(": ")
    assert path.endswith("params.yaml")
    assert advice.startswith("Nothing was run. Fix the file, or restore it: `git checkout ")
    return problems


def test_the_params_file_of_the_repository_loads() -> None:
    params = parameters.load(ROOT / "params.yaml")

    assert params.model.hidden_units == (256,)
    assert len(params.fetch.classes) == 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        # Unknown keys, with the nearest known one
        ({"train.epoch": 3}, "train.epoch is unknown (did you mean epochs?)."),
        ({"validat": {}}, "validat is unknown (did you mean validate?)."),
        ({"validate.row": 1}, "validate.row is unknown (did you mean rows?)."),
        ({"train.augmentation.rotate": 1}, "train.augmentation.rotate is unknown (did you mean rotation?)."),
        ({"fetch.files.train_images.sha": "a"}, "fetch.files.train_images.sha is unknown (did you mean sha256?)."),
        ({"tracking.uri": "x"}, "tracking.uri is unknown (known: experiment, model)."),
        ({"fetch.extra": [EXTRA | {"nam": "b"}]}, "fetch.extra.nam is unknown (did you mean name?)."),
        ({"validate.extra.class_divergenc": 1}, "validate.extra.class_divergenc is unknown (did you mean class_divergence?)."),
        # Names of earlier versions
        ({"train.weight_averaging": 0.9}, "train.weight_averaging is now called ema_momentum."),
        ({"sweep.space": {}}, "sweep.space is now called search_space."),
        # Extra data sets
        ({"fetch.extra": [EXTRA, EXTRA]}, "fetch.extra: expected unique names, found a twice."),
        ({"fetch.extra": [EXTRA, EXTRA | {"name": "A"}]}, "fetch.extra: expected unique names, found a twice."),
        ({"fetch.extra": [{"name": "a"}]}, "fetch.extra.source is missing."),
        ({"fetch.extra": [EXTRA | {"name": "../a"}]}, "fetch.extra.name: expected text that matches"),
        (
            {"fetch.extra": [EXTRA | {"source": "folder", "images": "i"}]},
            "fetch.extra: expected images and labels, which name two IDX files, or neither, found images for a.",
        ),
        (
            {"fetch.extra": [EXTRA | {"labels": "l"}]},
            "fetch.extra: expected no images and labels beside an .npz file, found labels for a.",
        ),
        # Wrong types
        ({"train.epochs": "ten"}, "train.epochs: expected a valid integer, found 'ten'."),
        ({"train.epochs": 1.5}, "train.epochs: expected a valid integer, found 1.5."),
        ({"train.epochs": True}, "train.epochs: expected a valid integer, found True."),
        ({"train.epochs": None}, "train.epochs: expected a valid integer, found None."),
        ({"train.learning_rate": "fast"}, "train.learning_rate: expected a valid number, found 'fast'."),
        ({"train": [1]}, "train: expected keys with values, found [1]."),
        ({"train.augmentation": None}, "train.augmentation: expected keys with values, found None."),
        ({"fetch.sources": "data/"}, "fetch.sources: expected a list, found 'data/'."),
        ({"fetch.classes": ["a", ["b"]]}, "fetch.classes: expected a valid string, found ['b']."),
        ({"model.hidden_units": "256"}, "model.hidden_units: expected a valid integer, found '256'."),
        # Values out of range
        ({"train.epochs": 0}, "train.epochs: expected greater than or equal to 1, found 0."),
        ({"train.learning_rate": 0}, "train.learning_rate: expected greater than 0, found 0."),
        ({"train.learning_rate": float("nan")}, "train.learning_rate: expected a finite number, found nan."),
        ({"fetch.timeout": float("inf")}, "fetch.timeout: expected a finite number, found inf."),
        ({"fetch.deadline": 1e10}, "fetch.deadline: expected less than or equal to 86400, found 10000000000.0."),
        ({"train.validation_split": 1}, "train.validation_split: expected less than 1, found 1."),
        ({"train.schedule": "linear"}, "train.schedule: expected 'constant' or 'cosine', found 'linear'."),
        ({"fetch.sources": []}, "fetch.sources: expected at least 1 item(s), found []."),
        ({"fetch.dataset": ""}, "fetch.dataset: expected text, found ''."),
        ({"fetch.files.test_labels.sha256": "ff7b"}, "fetch.files.test_labels.sha256: expected text that matches"),
        ({"model.hidden_units": []}, "model.hidden_units: expected at least 1 item(s), found []."),
        ({"model.hidden_units": [256, 0]}, "model.hidden_units: expected greater than or equal to 1, found 0."),
        ({"validate.pixel_maximum": [9, 1]}, "validate.pixel_maximum: expected the lower bound first, found [9, 1]."),
        ({"validate.pixel_maximum": [9]}, "validate.pixel_maximum: expected one more item, found [9]."),
        ({"validate.pixel_maximum": [1, 2, 3]}, "validate.pixel_maximum: expected at most 2 item(s), found [1, 2, 3]."),
    ],
)
def test_an_error_names_the_key_and_the_expected_and_found_values(changes: dict[str, Any], message: str, edit: Edit) -> None:
    assert refusal(edit, changes).startswith(message)


def test_several_errors_are_reported_together(edit: Edit) -> None:
    changes = {"train.epochs": 0, "train.optimiser": "adam", "model.activation": 3}

    problems = refusal(edit, changes).split("; ")

    assert len(problems) == 3
    for key in changes:
        assert sum(problem.startswith(key) for problem in problems) == 1


def test_a_renamed_key_is_reported_once(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(
        (ROOT / "params.yaml").read_text().replace("augmentation:", "distortion:").replace("search_space:", "space:")
    )

    with pytest.raises(InvalidParamsError) as refusal:
        parameters.load(path)

    problems = "train.distortion is now called augmentation; sweep.space is now called search_space"
    assert str(refusal.value).startswith(f"{path}: {problems}.\n")


@pytest.mark.parametrize("key", ["train", "train.epochs", "fetch.files.train_images.sha256"])
def test_a_missing_key_is_named(key: str, edit: Edit, tmp_path: Path) -> None:
    content = YAML(typ="safe").load(tmp_path / "params.yaml")
    *sections, last = key.split(".")
    section = content
    for name in sections:
        section = section[name]
    del section[last]
    YAML().dump(content, tmp_path / "params.yaml")

    assert refusal(edit=lambda _: parameters.load(Path("params.yaml")), changes={}) == f"{key} is missing."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"train: [", "expected YAML, found while parsing a flow node"),
        (b"train: 1\ntrain: 2", 'expected YAML, found while constructing a mapping .* duplicate key "train"'),
        (b"\xff\xfe\xff", "expected YAML, found unacceptable character"),
        (b"!!python/object/apply:os.getcwd []", "expected YAML, found could not determine a constructor for the tag"),
        (b"train: 2001-13-45", "expected YAML, found month must be in 1..12"),
        (b"train: !!int ten", "expected YAML, found invalid literal for int"),
        (b"train: " + b"9" * 5000, "expected YAML, found Exceeds the limit"),
        (b"- " * 3000, "expected YAML, found maximum recursion depth exceeded"),
        (b"!" * 50_000, r"expected YAML, found could not determine a constructor for the tag …\."),
        (b"train: &a [*a]", "train: expected keys with values, found "),
        (
            b"train: {seed: 0x" + b"f" * 5000 + b"}",
            "train.seed: expected less than 2147483648, found a number of several thousand",
        ),
        (b"train: {epochs: " + b"a" * 5000 + b"}", r"train.epochs: expected a valid integer, found '[a.]{190,200}';"),
        (b"train: [" + b"1, " * 50 + b"1]", r"train: expected keys with values, found \[(1, ){10}\.\.\.\]"),
        (b"", "expected sections, found None"),
        (b"- fetch\n- train", r"expected sections, found \['fetch', 'train'\]"),
        (b"1: 2", "fetch is missing; .*; top level: expected keys that are text, found 1"),
    ],
)
def test_a_file_without_yaml_sections_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes(content)

    with pytest.raises(InvalidParamsError, match=message):
        parameters.load(tmp_path / "params.yaml")


def test_anchors_and_aliases_are_read(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    written = (ROOT / "params.yaml").read_text().replace("[0, 0]", "&zero [0, 0]").replace("[128, 255]", "*zero")
    path.write_text(written)

    assert parameters.load(path).validate_.pixel_maximum == (0, 0)


def test_a_missing_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InvalidParamsError, match=r"^params.yaml: expected this file in the current folder, found none"):
        parameters.load(Path("params.yaml"))


def test_numbers_are_read_as_in_yaml_1_2(edit: Edit, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(path.read_text().replace("learning_rate: 0.008", "learning_rate: 1e-3"))

    assert parameters.load(path).train.learning_rate == 0.001


def test_what_holds_outside_a_checkout_is_what_params_yaml_has() -> None:
    assert parameters.ServeParams() == parameters.load(ROOT / "params.yaml").serve


REAL = YAML(typ="safe").load(ROOT / "params.yaml")


def keys(content: Any, parents: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The path of every value, including sections."""
    children = content.items() if isinstance(content, dict) else ()
    return [found for name, value in children for found in [(*parents, name), *keys(value, (*parents, name))]]


simple = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.binary()
values = st.recursive(simple, lambda inner: st.lists(inner) | st.dictionaries(simple, inner), max_leaves=8)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(key=st.sampled_from(keys(REAL)), value=values)
def test_any_value_is_accepted_or_refused_with_a_clear_error(key: tuple[str, ...], value: Any) -> None:
    content = copy.deepcopy(REAL)
    section = content
    for name in key[:-1]:
        section = section[name]
    section[key[-1]] = value

    try:
        parameters.check(content, Path("params.yaml"))
    except InvalidParamsError as error:
        assert str(error).startswith(f"params.yaml: {key[0]}")  # noqa: PT017 - most are refused, some are accepted


@pytest.mark.parametrize(
    "address",
    [
        "https://someone:hunter2@example.org/",
        "https://hunter2@example.org/",
        "https://example.org/?X-Amz-Signature=hunter2",
        "https://example.org/a/?v=1&sig=hunter2",
        "https://example.org/#access_token=hunter2",
    ],
)
def test_credentials_in_addresses_are_refused_and_not_shown(address: str, edit: Edit) -> None:
    for changes in (
        {"fetch.sources": [address]},
        {"fetch.sources": address},
        {"fetch.extra": [EXTRA | {"source": address, "images": "i", "labels": "l"}]},
        {"fetch.timeout": [[address]]},
    ):
        with pytest.raises(InvalidParamsError) as refusal:
            edit(changes)

        assert "hunter2" not in str(refusal.value)
        assert "fetch" in str(refusal.value)
        edit({"fetch.sources": ["data/embedded/"], "fetch.extra": [], "fetch.timeout": 2})


@pytest.mark.parametrize(("written", "units"), [(512, (512,)), ([512], (512,)), ([512, 128], (512, 128))])
def test_hidden_units_are_a_number_or_a_list(written: object, units: tuple[int, ...], edit: Edit) -> None:
    assert edit({"model.hidden_units": written}).model.hidden_units == units


@pytest.mark.parametrize(
    ("source", "npz"),
    [
        ("a.npz", "a.npz"),
        ("folder/a.NPZ", "a.NPZ"),
        ("https://example.org/b/a.npz?download=x/y", "a.npz"),
        ("folder.npz/", None),
        ("https://example.org/?name=a.npz", None),
    ],
)
def test_an_extra_data_set_is_recognised_as_npz_by_its_name(source: str, npz: str | None, edit: Edit) -> None:
    named = {} if npz else {"images": "i", "labels": "l"}

    (extra,) = edit({"fetch.extra": [EXTRA | {"source": source} | named]}).fetch.extra

    assert extra.npz == npz


def test_parameters_cannot_be_changed(edit: Edit) -> None:
    params = edit()

    with pytest.raises(ValidationError, match="frozen"):
        params.train.epochs = 1


def written(classes: str) -> parameters.Params:
    """Load the repository's params.yaml with the line `classes: ...`."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    changed = re.sub(r"(?m)^  classes: .*$", lambda _: f"  classes: {classes}", text)
    return parameters.check(parameters.parse(changed.encode(), Path("params.yaml")), Path("params.yaml"))


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        ("[0, 1, 2]", ("0", "1", "2")),
        ("[yes, no, true, ~]", ("yes", "no", "true", "~")),
        ("[1.0, 007, 0x10, 1_000, 2024-01-01]", ("1.0", "007", "0x10", "1_000", "2024-01-01")),
        ("['US$', \"a|b\", '漢字 😀']", ("US$", "a|b", "漢字 😀")),
    ],
)
def test_class_names_are_taken_as_they_are_written(classes: str, names: tuple[str, ...]) -> None:
    assert written(classes).fetch.classes == names


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("[cat, dog, cat, dog, eel]", "fetch.classes: expected names that differ, found 'cat' twice, 'dog' twice."),
        ("['\u00e9', 'e\u0301']", "fetch.classes: expected names that differ, found '\u00e9' twice."),
        ('["a\\nb", c]', r"fetch.classes: expected text in one line, without spaces around it, found 'a\nb'."),
        ("[[a], [b], [c], [d], [e]]", "fetch.classes: expected a valid string, found ['a'], ['b'], ['c'] and 2 more."),
    ],
)
def test_class_names_that_cannot_be_told_apart_are_refused_once(classes: str, message: str) -> None:
    with pytest.raises(InvalidParamsError) as raised:
        written(classes)

    assert message in str(raised.value)
    assert str(raised.value).count("fetch.classes") == 1


@pytest.mark.parametrize("name", ["my model", "mnist.dense", "a/b", "a:b", "-a", "a-", "é", "a" * 101])
def test_a_model_name_that_the_registry_or_git_refuses_is_refused_before_anything_runs(name: str, edit: Edit) -> None:
    with pytest.raises(InvalidParamsError, match=r"tracking\.model: expected at most 100 letters, digits, - and _"):
        edit({"tracking.model": name})


@pytest.mark.parametrize("name", ["mnist-dense", "a", "A_1", "a" * 100])
def test_a_model_name_that_is_accepted_is_one_for_mlflow_and_gto(name: str, edit: Edit) -> None:
    from gto.constants import assert_name_is_valid
    from mlflow.utils.validation import _validate_model_name

    edit({"tracking.model": name})

    assert_name_is_valid(name)
    _validate_model_name(name)
