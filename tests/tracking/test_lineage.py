import pytest

from pipeline.core import params
from pipeline.core.params import Params
from pipeline.tracking import lineage
from tests.imports import ROOT, closure, files

# What train and export import, but what decides neither weights nor graph.
SURROUNDINGS = {
    f"pipeline/{name}.py"
    for name in (
        *("core/console", "core/errors", "core/files", "core/params", "core/params_errors", "core/paths", "core/processes"),
        *("core/signals", "core/urls", "data/errors", "tracking/connection", "tracking/errors", "tracking/relocation"),
        *("tracking/run_lifecycle", "tracking/run_owner", "tracking/runs", "tracking/sqlite_store"),
        *("training/snapshots", "training/tensorflow_setup"),
    )
}


@pytest.fixture
def chosen() -> Params:
    return params.load(ROOT / "params.yaml")


def test_the_code_of_a_lineage_is_what_train_and_export_run() -> None:
    run = files(closure("pipeline.train") | closure("pipeline.export"))

    assert {f"pipeline/{name}" for name in lineage.SOURCES} == run - SURROUNDINGS


def test_another_seed_is_the_same_lineage(chosen: Params) -> None:
    other = chosen.model_copy(update={"train": chosen.train.model_copy(update={"seed": 7})})

    assert lineage.digest("data", other) == lineage.digest("data", chosen)


def test_other_data_parameters_or_network_are_another_lineage(chosen: Params) -> None:
    longer = chosen.model_copy(update={"train": chosen.train.model_copy(update={"epochs": 7})})
    wider = chosen.model_copy(update={"model": chosen.model.model_copy(update={"hidden_units": (7,)})})

    digests = {lineage.digest("data", chosen), lineage.digest("more data", chosen)}
    assert len(digests | {lineage.digest("data", changed) for changed in (longer, wider)}) == 4
