"""The promises of the layout: which module may import what, and that dvc.yaml lists what each stage runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.core import paths
from tests.imports import MODULES, ROOT, closure, direct, files, imported, outputs

STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
VERBS = sorted(module for module in MODULES if module.count(".") == 1)
NOUNS = sorted(module for module in MODULES if module.count(".") > 1)

# Importing these costs seconds, so each is imported in few places: (library, modules that may name it).
HEAVY = {
    "tensorflow": {"pipeline.inference.convert", "pipeline.training.augmentation", "pipeline.training.fit"},
    "keras": {"pipeline.training.augmentation", "pipeline.training.fit", "pipeline.training.network"},
    "tf2onnx": {"pipeline.inference.convert"},
    "great_expectations": {"pipeline.validation.expectations"},
    "mlflow": {
        "pipeline.distributed.sweep_runs",
        "pipeline.promotion.champions",
        "pipeline.serving.scoring_app",
        "pipeline.tracking.connection",
        "pipeline.tracking.registry",
        "pipeline.tracking.run_lifecycle",
        "pipeline.tracking.runs",
    },
    "onnxruntime": {"pipeline.inference.convert", "pipeline.inference.onnx_model"},
    "matplotlib": {
        "pipeline.distributed.sweep_plots",
        "pipeline.evaluation.plots",
        "pipeline.evaluation.style",
        "pipeline.monitoring.plots",
    },
    "ray": {"pipeline.distributed.batch_predict", "pipeline.distributed.cluster", "pipeline.distributed.trials"},
    "optuna": {"pipeline.distributed.trials"},
}


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_do_not_import_verbs(verb: str) -> None:
    assert direct(verb) <= set(NOUNS)


@pytest.mark.parametrize("noun", NOUNS)
def test_nouns_do_not_import_verbs(noun: str) -> None:
    assert direct(noun) <= set(NOUNS)


@pytest.mark.parametrize("library", HEAVY)
def test_heavy_libraries_are_imported_where_they_belong(library: str) -> None:
    importers = {module for module, path in MODULES.items() if library in {name.split(".")[0] for name in imported(path)}}

    assert importers == HEAVY[library]


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("pipeline.fetch", set()),
        ("pipeline.validate", {"pandas"}),
        ("pipeline.train", set()),
        ("pipeline.drift", {"onnxruntime"}),
        ("pipeline.evaluate", {"onnxruntime"}),
        ("pipeline.explain", {"onnxruntime"}),
        ("pipeline.explore", set()),
        ("pipeline.predict", {"onnxruntime"}),
        ("pipeline.promote", {"onnxruntime"}),
        ("pipeline.rollback", set()),
        ("pipeline.score", {"onnxruntime"}),
        ("pipeline.serve", {"onnxruntime"}),
        ("pipeline.summary", set()),
        ("pipeline.sweep", set()),
        ("pipeline.ui", set()),
        ("pipeline.inference.onnx_model", {"onnxruntime"}),
    ],
)
def test_importing_a_module_loads_no_other_heavy_library(module: str, allowed: set[str]) -> None:
    watched = [*HEAVY, "pandas", "scipy.stats", "sklearn", "dvc", "psycopg"]
    code = f"import {module}, json, sys; print(json.dumps([name for name in {watched!r} if name in sys.modules]))"

    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert set(json.loads(printed)) <= allowed


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_every_module_that_it_runs(stage: str) -> None:
    listed = {dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")}

    assert listed == files(closure(f"pipeline.{stage}"))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_the_module_of_its_name(stage: str) -> None:
    assert STAGES[stage]["cmd"] == f"python -m pipeline.{stage}"


def test_every_file_that_stages_exchange_is_declared_in_dvc_yaml() -> None:
    declared = set().union(*(outputs(stage) for stage in STAGES.values()))
    known = paths.Paths()
    files_named = {path.as_posix() for name, path in vars(known).items() if path.as_posix().startswith("data/")}
    folders = {known.validation.as_posix(), known.model.as_posix(), known.evaluation.as_posix()}
    commands = (known.drift, known.retrain, known.sweep)  # their folders
    written_by_commands = {known.promotion.as_posix(), *(folder.as_posix() for folder in commands)} | {
        name for name in files_named if any(Path(name).is_relative_to(folder) for folder in commands)
    }
    expected = files_named - folders - written_by_commands

    covered = {name for name in expected if name in declared or Path(name).parent.as_posix() in declared}

    assert covered == expected
    assert set(paths.TIME_DEPENDENT) <= declared
