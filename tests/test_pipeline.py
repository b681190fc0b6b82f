"""The whole pipeline: `dvc repro` on a small subset of MNIST, in a clone of the working tree."""

import json
from pathlib import Path

import mlflow
import numpy as np
import onnxruntime
import pytest

from pipeline.core import files
from pipeline.core.paths import TIME_DEPENDENT
from pipeline.data.datasets import Split
from tests.chaos.conftest import LONG
from tests.clones import Clone, git, make_clone, ran
from tests.conftest import Repository, edit_params

STAGES = ["fetch", "validate", "train", "export", "evaluate", "explain", "register"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, subset: dict[str, Split]) -> Clone:
    return make_clone(tmp_path_factory.mktemp("clone"), subset, {})


@pytest.fixture(scope="module")
def first(clone: Clone) -> str:
    """The output of the first `dvc repro`."""
    return clone.repro()


def test_dvc_repro_runs_every_stage_without_warnings(clone: Clone, first: str) -> None:
    assert ran(first) == STAGES
    assert not [line for line in first.splitlines() if "warning" in line.lower() or "traceback" in line.lower()]
    summary = [line for line in first.splitlines() if line.split(" ")[0] in STAGES]
    assert [line.split()[0] for line in summary if line.endswith(" s")] == STAGES
    assert "Total params: 203,530" in first


def test_a_second_repro_skips_every_stage(clone: Clone, first: str) -> None:
    printed = clone.repro()

    assert ran(printed) == []
    assert "up to date" in printed


def test_the_metrics_describe_the_exported_file(clone: Clone, first: str, subset: dict[str, Split]) -> None:
    session = onnxruntime.InferenceSession(clone.paths.onnx, providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(None, {"image": subset["test"].images})

    metrics = files.read_json(clone.paths.metrics)

    labels = subset["test"].labels
    assert metrics["accuracy"] == sum(probabilities.argmax(axis=1) == labels) / len(labels)
    of_labels = probabilities[np.arange(len(labels)), labels].astype(float)
    assert metrics["log_loss"] == pytest.approx(float(-np.log(of_labels).mean()), rel=1e-12)


def test_two_runs_give_the_same_bytes(clone: Clone, first: str, built: Repository) -> None:
    """Compare with `built`: the same data and parameters, but all stages in one process. It has no real validation report."""
    validation = clone.paths.validation.relative_to(clone.paths.root).as_posix()
    digests = {name: digest for name, digest in clone.digests().items() if not name.startswith(validation)}

    assert digests.keys() > set(TIME_DEPENDENT)
    different = {name for name, digest in digests.items() if files.sha256(built.paths.root / name) != digest}
    assert different <= set(TIME_DEPENDENT)


def test_dvc_shows_metrics_and_plots(clone: Clone, first: str, tmp_path: Path) -> None:
    git(clone.paths.root, "add", "--all")
    git(clone.paths.root, "commit", "--quiet", "--message", "Results")
    shown = clone.run("dvc", "metrics", "show", "data/evaluation/metrics.json").stdout
    plots = clone.run("dvc", "plots", "show", "--out", str(tmp_path))

    assert "log_loss" in shown
    assert "int8.accuracy" in shown
    assert plots.returncode == 0, plots.stderr
    page = (tmp_path / "index.html").read_text()
    assert all(title in page for title in ("Loss on augmented", "Accuracy on augmented", "Confusion on the test split"))
    assert list(tmp_path.rglob("*worst_mistakes.png"))


@pytest.mark.skipif(not LONG, reason="runs most stages again: make chaos")
def test_an_experiment_with_another_hidden_size_reruns_training_and_later_stages(clone: Clone, first: str) -> None:
    done = clone.run("dvc", "exp", "run", "--temp", "--name", "wider", "--set-param", "model.hidden_units=48")

    assert done.returncode == 0, done.stdout + done.stderr
    assert ran(done.stdout) == ["train", "export", "evaluate", "explain", "register"]
    client = mlflow.MlflowClient(clone.paths.tracking_uri)
    runs = client.search_runs(["1"], "tags.dvc_experiment = 'wider'")
    assert [(run.info.run_name, run.data.params["model.hidden_units"]) for run in runs] == [("wider", "(48,)")]
    assert runs[0].data.metrics["test/accuracy"] > 0.5
    registered = client.search_model_versions(f"run_id = '{runs[0].info.run_id}'")
    assert [version.aliases for version in registered] == [[]]  # the alias challenger stays at the model of the tree


@pytest.mark.parametrize(
    ("file", "old", "new", "stages"),
    [
        ("requirements/versions.yaml", 'onnxruntime: "1', 'onnxruntime: "2', {"export", "evaluate", "explain", "register"}),
        ("requirements/versions.yaml", 'great-expectations: "1', 'great-expectations: "2', {"validate"}),
        ("pipeline/validation/expectations.py", '"""', '"""An edit. ', {"fetch", "validate"}),  # fetch: near-duplicates
        ("pipeline/promotion/rules.py", '"""', '"""An edit. ', set()),
        ("params.yaml", "gallery: 40", "gallery: 12", {"evaluate", "register"}),
    ],
)
def test_a_change_reruns_the_stages_that_use_it(
    file: str, old: str, new: str, stages: set[str], clone: Clone, first: str
) -> None:
    path = clone.paths.root / file
    before = path.read_text()
    try:
        path.write_text(before.replace(old, new, 1))
        assert path.read_text() != before
        assert json.loads(clone.run("dvc", "status", "--json").stdout).keys() == stages
    finally:
        path.write_text(before)


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
