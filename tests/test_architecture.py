"""The rules of the layout: which module may import what, and what dvc.yaml lists for each stage."""

import ast
import graphlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.core import paths
from tests.imports import MODULES, ROOT, closure, direct, imported, outputs

STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
LOCKED = YAML(typ="safe").load(ROOT / "requirements" / "versions.yaml")
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
        "pipeline.tracking.connection",
        "pipeline.tracking.descriptions",
        "pipeline.tracking.registration",
        "pipeline.tracking.registry",
        "pipeline.tracking.run_content",
        "pipeline.tracking.run_lifecycle",
        "pipeline.tracking.runs",
    },
    "onnxruntime": {"pipeline.inference.onnx_model"},
    "matplotlib": {
        "pipeline.distributed.sweep_plots",
        "pipeline.evaluation.plots",
        "pipeline.evaluation.style",
        "pipeline.monitoring.plots",
    },
    "ray": {"pipeline.distributed.batch_predict", "pipeline.distributed.cluster", "pipeline.distributed.trials"},
    "optuna": {"pipeline.distributed.trials"},
}


# Packages whose modules have another name.
DISTRIBUTIONS = {"PIL": "pillow", "ruamel": "ruamel-yaml"}
# No output depends on these versions: they check parameters, wait, monitor, report, or fetch data that is hashed afterwards.
IRRELEVANT = {
    *("filelock", "psutil", "pydantic", "pydantic-core", "requests", "ruamel-yaml", "sqlalchemy", "tqdm"),
}
IRRELEVANT_FOR = {"train": {"mlflow"}}  # only records the run


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_do_not_import_verbs(verb: str) -> None:
    assert direct(verb) <= set(NOUNS)


@pytest.mark.parametrize("noun", NOUNS)
def test_nouns_do_not_import_verbs(noun: str) -> None:
    assert direct(noun) <= set(NOUNS)


@pytest.mark.parametrize("library", HEAVY)
def test_only_the_listed_modules_import_a_heavy_library(library: str) -> None:
    importers = {module for module, path in MODULES.items() if library in {name.split(".")[0] for name in imported(path)}}

    assert importers == HEAVY[library]


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("pipeline.fetch", set()),
        ("pipeline.label", {"onnxruntime"}),
        ("pipeline.select", {"onnxruntime"}),
        ("pipeline.validate", {"pandas"}),
        ("pipeline.train", set()),
        ("pipeline.compare", {"onnxruntime"}),
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


def room(module: str) -> str:
    """The folder of a module: `pipeline/training`."""
    return MODULES[module].parent.relative_to(ROOT).as_posix()


def test_rooms_have_no_import_cycle() -> None:
    imports = {room(noun): {room(other) for other in direct(noun)} - {room(noun)} for noun in NOUNS}
    order = graphlib.TopologicalSorter(imports)

    order.prepare()  # raises CycleError, which names the cycle


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_rooms_that_it_imports_from_and_no_others(stage: str) -> None:
    listed = {dep for dep in STAGES[stage]["deps"] if dep.startswith("pipeline/") and not dep.startswith("pipeline/explorer/")}
    nouns = closure(f"pipeline.{stage}") - {f"pipeline.{stage}"}

    assert listed == {f"pipeline/{stage}.py", *map(room, nouns)}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_the_libraries_that_its_outputs_depend_on(stage: str) -> None:
    (listed,) = (entry["requirements/versions.yaml"] for entry in STAGES[stage]["params"] if isinstance(entry, dict))
    names = {name.split(".")[0] for module in closure(f"pipeline.{stage}") for name in imported(MODULES[module])}
    packages = {DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in names - sys.stdlib_module_names - {"pipeline"}}

    assert packages <= LOCKED.keys()
    lineage = {"keras", "onnx", "onnxruntime", "tensorflow", "tf2onnx"} if stage == "register" else set()
    assert set(listed) == packages - IRRELEVANT - IRRELEVANT_FOR.get(stage, set()) | lineage


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_the_module_of_its_name(stage: str) -> None:
    assert STAGES[stage]["cmd"] == f"python -m pipeline.{stage}"


def test_every_file_that_stages_exchange_is_declared_in_dvc_yaml() -> None:
    declared = set().union(*(outputs(stage) for stage in STAGES.values()))
    known = paths.Paths()
    files_named = {path.as_posix() for name, path in vars(known).items() if path.as_posix().startswith("data/")}
    folders = {known.validation.as_posix(), known.model.as_posix(), known.evaluation.as_posix()}
    monitored = (known.drift, known.selected, known.collected, known.live_accuracy)
    commands = (known.adopted, known.retrain, known.sweep, *monitored)  # their folders
    single = {known.promotion.as_posix(), known.selected_lock.as_posix()}
    written_by_commands = single | {
        *(folder.as_posix() for folder in commands),
        *(name for name in files_named if any(Path(name).is_relative_to(folder) for folder in commands)),
    }
    expected = files_named - folders - written_by_commands

    covered = {name for name in expected if name in declared or Path(name).parent.as_posix() in declared}

    assert covered == expected
    assert set(paths.TIME_DEPENDENT) <= declared


@pytest.mark.parametrize("module", MODULES)
def test_modules_and_functions_are_short(module: str) -> None:
    source = MODULES[module].read_text(encoding="utf-8")
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]

    assert source.count("\n") <= 300
    assert [node.name for node in functions if (node.end_lineno or 0) - node.lineno >= 50] == []
