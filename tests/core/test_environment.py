"""An account whose settings and variables would change every result, or stop the pipeline."""

import getpass
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.core import environment
from tests.chaos.conftest import LONG
from tests.conftest import Repository
from tests.imports import ROOT

VARIABLES = {
    "COLUMNS": "50",
    "KERAS_BACKEND": "jax",
    "KERAS_MAX_EPOCHS": "1",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",
    "MLFLOW_EXPERIMENT_NAME": "other",
    "MLFLOW_REGISTRY_URI": "http://127.0.0.1:9",
    "MLFLOW_RUN_CONTEXT": "no JSON",
    "MLFLOW_RUN_ID": "0" * 32,
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "NVIDIA_TF32_OVERRIDE": "1",
    "OMP_NUM_THREADS": "1",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "7",
    "PYTHONWARNINGS": "error",
    "SCIPY_ARRAY_API": "1",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_USE_LEGACY_KERAS": "1",
    "TZ": "CET-1CEST,M3.5.0,M10.5.0/3",
    "TF_XLA_FLAGS": "--no_such_flag=1",
    "XLA_FLAGS": "--no_such_flag=1",
}
KERAS_JSON = {"floatx": "float16", "epsilon": 0.1, "backend": "torch", "image_data_format": "channels_first"}


@pytest.fixture
def hostile(tmp_path: Path) -> dict[str, str]:
    """The environment of an account with settings for every library."""
    home = tmp_path / "home"
    (home / ".keras").mkdir(parents=True)
    (home / ".keras" / "keras.json").write_text(json.dumps(KERAS_JSON))
    (home / ".config" / "matplotlib" / "stylelib").mkdir(parents=True)
    (home / ".config" / "matplotlib" / "matplotlibrc").write_text("text.usetex: True\nsavefig.dpi: 30\n")
    (home / ".config" / "matplotlib" / "stylelib" / "default.mplstyle").write_text("figure.facecolor: red\n")
    kept = {name: os.environ[name] for name in ("PATH", environment.XLA_FLAGS)}
    return {**kept, **VARIABLES, "HOME": str(home), "PYTHONPATH": str(ROOT)}


def run(code: str, folder: Path, variables: dict[str, str]) -> Any:
    """Run `code` in a new process in `folder`, and return the JSON that it prints last."""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


STAGES = """
import json, os
if hasattr(os, "sched_setaffinity"):  # macOS has none
    os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])
import pipeline
from pipeline.core import params, paths
from pipeline import train, export, evaluate, explain
read = params.load(paths.Paths().params)
for stage in (train, export, evaluate, explain):
    stage.run(read, paths.Paths())
import keras, matplotlib
from keras import config
print(json.dumps([config.backend(), config.floatx(), config.epsilon(), config.image_data_format(), config.max_epochs(),
                  matplotlib.get_backend(), matplotlib.rcParams["savefig.dpi"], sorted(os.environ)]))
"""
DETERMINISTIC = (
    "data/model/model.keras",
    "data/model/history.csv",
    "data/model/snapshots.npz",
    "data/model/summary.txt",
    "data/model/model.onnx",
    "data/model/model.int8.onnx",
    "data/model/parity.json",
    "data/evaluation/metrics.json",
    "data/evaluation/plots/confusion_matrix.png",
    "data/evaluation/plots/worst_mistakes.png",
    "data/explorer/index.html",
)


@pytest.mark.skipif(not LONG, reason="runs the stages again: make chaos")
def test_a_hostile_account_and_one_core_give_the_same_bytes(
    built: Repository, empty_store: Path, hostile: dict[str, str], tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(built.paths.root, tree, ignore=shutil.ignore_patterns("mlruns", "model", "evaluation", "explorer"))
    (tree / "mlruns").mkdir()
    shutil.copy(empty_store, tree / "mlruns")

    *settings, left = run(STAGES, tree, hostile)

    assert settings == ["tensorflow", "float32", 1e-7, "channels_last", None, "agg", "figure"]
    assert not {"TF_XLA_FLAGS", "TF_ENABLE_ONEDNN_OPTS", "KERAS_MAX_EPOCHS", "SCIPY_ARRAY_API", "MLFLOW_RUN_ID"} & {*left}
    assert json.loads((tmp_path / "home" / ".keras" / "keras.json").read_text()) == KERAS_JSON
    digests = {root: {name: _sha256(root / name) for name in DETERMINISTIC} for root in (built.paths.root, tree)}
    assert digests[tree] == digests[built.paths.root]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_python_without_docstrings_is_refused_by_name() -> None:
    done = subprocess.run([sys.executable, "-OO", "-m", "pipeline"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: PYTHONOPTIMIZE: expected 0 or 1, found 2")


def test_a_user_id_without_a_name_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(number: int) -> Any:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME"):
        monkeypatch.delenv(name, raising=False)

    environment.pin()

    assert getpass.getuser() == f"uid{os.getuid()}"
    assert os.path.expanduser("~") == "/nonexistent"
