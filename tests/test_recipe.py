import pytest

from pipeline.core import params, recipe
from pipeline.core.params import Params
from tests.imports import ROOT, closure, files

# What train and export import, but what decides neither weights nor graph.
SURROUNDINGS = {
    f"pipeline/core/{name}.py"
    for name in (
        *("connection", "console", "errors", "faults", "files", "imports", "interrupts", "params", "paths"),
        *("relocation", "runner", "snapshots", "store", "tracking", "urls"),
    )
}


@pytest.fixture
def chosen() -> Params:
    return params.load(ROOT / "params.yaml")


def test_the_code_of_a_recipe_is_what_train_and_export_run() -> None:
    run = files(closure("pipeline.train") | closure("pipeline.export"))

    assert {f"pipeline/{name}" for name in recipe.SOURCES} == run - SURROUNDINGS


def test_another_seed_is_the_same_recipe(chosen: Params) -> None:
    other = chosen.model_copy(update={"train": chosen.train.model_copy(update={"seed": 7})})

    assert recipe.digest("data", other) == recipe.digest("data", chosen)


def test_other_data_parameters_or_network_are_another_recipe(chosen: Params) -> None:
    longer = chosen.model_copy(update={"train": chosen.train.model_copy(update={"epochs": 7})})
    wider = chosen.model_copy(update={"model": chosen.model.model_copy(update={"hidden_units": (7,)})})

    digests = {recipe.digest("data", chosen), recipe.digest("more data", chosen)}
    assert len(digests | {recipe.digest("data", changed) for changed in (longer, wider)}) == 4
