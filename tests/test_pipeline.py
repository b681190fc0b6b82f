"""The whole pipeline as people run it: the real `dvc repro`, on a small real subset, in a clone of the tree."""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import onnxruntime
import pytest
from ruamel.yaml import YAML

from pipeline.core import files
from pipeline.core.datasets import Split
from pipeline.core.paths import TIME_DEPENDENT, Paths
from tests.conftest import SMALL, edit_params, write_source
from tests.imports import ROOT, outputs

STAGES = ["fetch", "validate", "train", "export", "evaluate", "explain", "register"]


@dataclass(frozen=True)
class Clone:
    paths: Paths

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a Python module in the clone, as `make` does: with this environment's interpreter first on the path."""
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "120"}
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.paths.root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def repro(self, *options: str) -> str:
        """`dvc repro`, which must succeed; return what it prints."""
        done = self.run("dvc", "repro", *options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def digests(self) -> dict[str, str]:
        """SHA-256 of every file below the outputs that dvc.yaml declares."""
        stages = YAML(typ="safe").load(self.paths.root / "dvc.yaml")["stages"].values()
        found = [self.paths.root / out for stage in stages for out in sorted(outputs(stage))]
        whole = [file for path in found for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
        return {file.relative_to(self.paths.root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in whole}


def ran(printed: str) -> list[str]:
    """The stages that DVC says it ran."""
    return [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")]


def git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, subset: dict[str, Split]) -> Clone:
    """What a clone of the working tree would hold, with the parameters for the subset committed."""
    root = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    for name in (name for name in listed if (ROOT / name).is_file() and not name.startswith("data/embedded/t")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    source = write_source(tmp_path_factory.mktemp("source"), subset)
    edit_params(root / "params.yaml", SMALL | {"fetch.sources": [str(source)], "model.hidden_units": [32]})
    (root / "dvc.lock").unlink()
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "Clone")
    return Clone(Paths(root))


@pytest.fixture(scope="module")
def first(clone: Clone) -> str:
    """What the first `dvc repro` printed."""
    return clone.repro()


def test_dvc_repro_runs_every_stage_in_calm_lines(clone: Clone, first: str) -> None:
    assert ran(first) == STAGES
    assert not [line for line in first.splitlines() if "warning" in line.lower() or "traceback" in line.lower()]
    said = [line for line in first.splitlines() if line.split(" ")[0] in STAGES]
    assert [line.split()[0] for line in said if line.endswith(" s")] == STAGES
    assert "Total params: 25,450" in first


def test_a_second_repro_runs_nothing(clone: Clone, first: str) -> None:
    printed = clone.repro()

    assert ran(printed) == []
    assert "up to date" in printed


def test_the_metrics_are_those_of_the_served_file(clone: Clone, first: str, subset: dict[str, Split]) -> None:
    session = onnxruntime.InferenceSession(clone.paths.onnx, providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(None, {"image": subset["test"].images})

    metrics = files.read_json(clone.paths.metrics)

    labels = subset["test"].labels
    assert metrics["accuracy"] == sum(probabilities.argmax(axis=1) == labels) / len(labels)
    given = probabilities[np.arange(len(labels)), labels].astype(float)
    assert metrics["log_loss"] == pytest.approx(float(-np.log(given).mean()), rel=1e-12)


def test_a_forced_repro_gives_the_same_bytes(clone: Clone, first: str) -> None:
    before = clone.digests()

    assert ran(clone.repro("--force")) == STAGES

    after = clone.digests()
    assert before.keys() == after.keys() >= set(TIME_DEPENDENT)
    assert {name for name in before if before[name] != after[name]} <= set(TIME_DEPENDENT)


def test_dvc_shows_metrics_and_plots(clone: Clone, first: str, tmp_path: Path) -> None:
    git(clone.paths.root, "add", "--all")
    git(clone.paths.root, "commit", "--quiet", "--message", "Results")
    shown = clone.run("dvc", "metrics", "show", "data/evaluation/metrics.json").stdout
    plots = clone.run("dvc", "plots", "show", "--out", str(tmp_path))

    assert "log_loss" in shown
    assert "int8.accuracy" in shown
    assert plots.returncode == 0, plots.stderr
    page = (tmp_path / "index.html").read_text()
    assert all(title in page for title in ("Loss, on distorted", "Accuracy, on distorted", "Confusion on the test split"))
    assert list(tmp_path.rglob("*worst_mistakes.png"))


def test_another_hidden_size_reruns_training_and_what_follows_in_an_experiment(clone: Clone, first: str) -> None:
    done = clone.run("dvc", "exp", "run", "--temp", "--name", "wider", "--set-param", "model.hidden_units=48")

    assert done.returncode == 0, done.stdout + done.stderr
    assert ran(done.stdout) == ["train", "export", "evaluate", "explain", "register"]
    runs = mlflow.MlflowClient(clone.paths.tracking_uri).search_runs(["1"], "tags.dvc_experiment = 'wider'")
    assert [(run.info.run_name, run.data.params["model.hidden_units"]) for run in runs] == [("wider", "(48,)")]
    assert runs[0].data.metrics["test/accuracy"] > 0.5


def test_another_evaluation_parameter_retrains_nothing(clone: Clone, first: str) -> None:
    edit_params(clone.paths.params, {"evaluate.gallery": 12})

    assert ran(clone.repro()) == ["evaluate", "register"]


def test_data_that_fails_validation_stops_the_pipeline_and_keeps_the_report(clone: Clone, first: str) -> None:
    trained = clone.paths.keras.read_bytes()
    edit_params(clone.paths.params, {"validate.mean_intensity": [100, 120]})

    done = clone.run("dvc", "repro")

    assert done.returncode != 0
    assert ran(done.stdout) == ["validate"]
    assert "train split, mean intensity: expected 100 to 120, found 3" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert files.read_json(clone.paths.report)["success"] is False
    assert clone.paths.keras.read_bytes() == trained
