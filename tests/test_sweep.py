"""A sweep on Ray, the experiment that it queues, and the search space. tests/chaos/test_sweeps.py interrupts sweeps."""

import argparse
import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest
from ruamel.yaml import YAML

from pipeline import fetch, sweep
from pipeline.core import files, params
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data.datasets import Split
from pipeline.distributed import search_space, sweep_state
from pipeline.distributed.errors import ClusterError, SweepError
from tests.chaos.conftest import LONG
from tests.clones import Clone, clone_with_outputs, git
from tests.conftest import Repository, edit_params
from tests.imports import ROOT
from tests.servers import free_port

SMALL_SWEEP = {
    "model.hidden_units": [32],
    "train.epochs": 2,
    "sweep.trials": 3,
    "sweep.grace_period": 1,
    "sweep.max_failures": 1,
    "sweep.search_space": {
        "train.learning_rate": {"low": 0.0005, "high": 0.01, "log": True},
        "train.batch_size": {"choices": [50, 100]},
    },
}


def make_sweep_clone(built: Repository, root: Path, subset: dict[str, Split]) -> Clone:
    """A clone with fetched and validated data, so that experiments skip these stages."""
    pytest.importorskip("ray", reason="Ray is not installed (make .venv/.sweep)")
    clone = clone_with_outputs(built, root, subset, SMALL_SWEEP, "fetch", "validate")
    git(clone.paths.root, "add", "--all")
    git(clone.paths.root, "commit", "--quiet", "--message", "Data")
    return clone


@pytest.fixture(scope="module")
def clone(built: Repository, tmp_path_factory: pytest.TempPathFactory, subset: dict[str, Split]) -> Clone:
    return make_sweep_clone(built, tmp_path_factory.mktemp("sweep") / "clone", subset)


def start_sweep(clone: Clone, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.sweep", *arguments],
        cwd=clone.paths.root,
        env=os.environ | {"PATH": path, "RAY_ADDRESS": ""} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_until(process: "subprocess.Popen[str]", words: str) -> list[str]:
    """Return the lines up to the first that contains `words`."""
    lines = []
    for line in process.stdout or ():
        lines.append(line)
        if words in line:
            return lines
    raise AssertionError("".join(lines))


def trials_table(clone: Clone) -> list[dict[str, str]]:
    with (clone.paths.sweep / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def sweep_runs(clone: Clone) -> tuple[Any, list[Any]]:
    """Return the parent run of the last sweep and its child runs."""
    client = mlflow.MlflowClient(clone.paths.tracking_uri)
    parent = client.get_run(files.read_json(clone.paths.sweep_record)["run_id"])
    runs = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    return parent, list(runs)


def assert_every_trial_has_one_run(clone: Clone, trials: int) -> None:
    """Check that every trial of the table has one FINISHED run in MLflow, with its parameters and a point for each epoch.

    One trial has the values of params.yaml; it was not stopped early and is not better than the best.
    """
    rows, (parent, runs) = trials_table(clone), sweep_runs(clone)
    finished = [run for run in runs if run.info.status == "FINISHED"]
    assert len(rows) == trials
    assert sorted(run.data.tags["trial"] for run in finished) == sorted(row["trial"] for row in rows)
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}
    assert parent.info.status == "FINISHED"
    client = mlflow.MlflowClient(clone.paths.tracking_uri)
    by_trial = {run.data.tags["trial"]: run for run in finished}
    for row in rows:
        run = by_trial[row["trial"]]
        assert float(run.data.params["train.learning_rate"]) == pytest.approx(float(row["train.learning_rate"]))
        points = client.get_metric_history(run.info.run_id, "epoch/val_loss")
        assert [point.step for point in points] == list(range(1, int(row["epochs"]) + 1))
        assert points[-1].value == pytest.approx(float(row["val_loss"]))
    assert {"trials.csv", "parallel.png"} <= {entry.path for entry in client.list_artifacts(parent.info.run_id)}
    (default,) = [row for row in rows if row["train.learning_rate"] == "0.002" and row["train.batch_size"] == "100"]
    assert default["epochs"] == rows[0]["epochs"] == "2"
    assert float(rows[0]["val_loss"]) <= float(default["val_loss"])


def test_resuming_without_a_sweep_is_refused(tree: Paths) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (make .venv/.sweep)")
    small = params.load(tree.params)
    fetch.run(small, tree)

    with pytest.raises(SweepError, match="a sweep to resume"):
        sweep.run(argparse.Namespace(resume=True), small, tree)


@pytest.mark.skipif(not LONG, reason="starts Ray: make chaos")
def test_a_sweep_logs_every_trial_and_queues_the_best_as_an_experiment(clone: Clone) -> None:
    """The trials run one after the other, in one process."""
    before = clone.paths.params.read_bytes()
    edit_params(clone.paths.params, {"sweep.trials": 2, "sweep.cpus_per_trial": os.cpu_count()})
    changed = clone.paths.params.read_bytes()

    process = start_sweep(clone)
    printed, _ = process.communicate(timeout=300)

    assert process.returncode == 0, printed
    assert_every_trial_has_one_run(clone, 2)
    assert clone.paths.params.read_bytes() == changed  # queued, not applied
    best = trials_table(clone)[0]
    assert f"best trial queued as experiment sweep-{best['trial']}" in printed
    shown = subprocess.run(
        ["git", "show", "refs/exps/celery/stash:params.yaml"], cwd=clone.paths.root, check=True, capture_output=True, text=True
    )
    queued = YAML(typ="safe").load(shown.stdout)
    assert queued["train"]["learning_rate"] == pytest.approx(float(best["train.learning_rate"]))
    assert queued["train"]["batch_size"] == int(best["train.batch_size"])
    clone.paths.params.write_bytes(before)


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}"])
def test_an_address_without_a_cluster_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (make .venv/.sweep)")
    from pipeline.distributed import cluster

    monkeypatch.setenv("RAY_ADDRESS", address.format(port=free_port()))

    with pytest.raises(ClusterError, match="expected host:port of a Ray cluster"), cluster.connected():
        pass


@pytest.fixture
def shipped(tmp_path: Path) -> Params:
    return params.load(ROOT / "params.yaml")


def test_the_search_space_of_the_repository_is_valid_and_contains_the_current_values(shipped: Params) -> None:
    search_space.check(shipped)

    current = search_space.current(shipped)
    assert current is not None
    assert search_space.override(shipped, current) == shipped


@pytest.mark.parametrize("choices", [[128, 256], [[128], [256]]])
def test_a_choice_equals_the_current_value_in_either_notation(tmp_path: Path, choices: list[Any]) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    read = edit_params(tmp_path / "params.yaml", {"sweep.search_space": {"model.hidden_units": {"choices": choices}}})

    search_space.check(read)

    assert search_space.current(read) == {"model.hidden_units": choices[1]}


def test_current_values_outside_the_search_space_are_not_tried(tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    searched = {"train.learning_rate": {"low": 0.1, "high": 0.2}, "train.batch_size": {"choices": [384]}}

    assert search_space.current(edit_params(tmp_path / "params.yaml", {"sweep.search_space": searched})) is None


def test_a_sweep_with_other_parameters_or_data_is_not_resumed(tree: Paths) -> None:
    small = params.load(tree.params)
    fetch.run(small, tree)
    sweep_state.write("r", small, tree)

    assert sweep_state.resumed_run(small, tree) == "r"
    record = files.read_json(tree.sweep_record)
    files.write_json(tree.sweep_record, record | {"of": record["of"] | {"train": {}, "data": ""}})
    with pytest.raises(SweepError, match="found changes of train and data"):
        sweep_state.resumed_run(small, tree)


@pytest.mark.parametrize(
    ("searched", "expected"),
    [
        ({"train.rate": {"low": 1, "high": 2}}, "found train.rate"),
        ({"train.epochs": {"choices": [1, 2]}}, "found train.epochs"),
        ({"promote.alpha": {"low": 0.1, "high": 0.2}}, "found promote.alpha"),
        ({"train.learning_rate": {"low": -1, "high": 2}}, "learning_rate"),
        ({"model.activation": {"choices": ["relu", "no such"]}}, "activation"),
        ({"train.learning_rate": {"low": 0.2, "high": 0.1}}, "a low below high for train.learning_rate, found 0.2 and 0.1"),
        ({"train.augmentation.shift": {"low": 0, "high": 2, "log": True}}, "above 0 for log"),
    ],
)
def test_an_invalid_search_space_is_refused(tmp_path: Path, searched: dict[str, Any], expected: str) -> None:
    YAML().dump(YAML().load(ROOT / "params.yaml"), tmp_path / "params.yaml")
    read = edit_params(tmp_path / "params.yaml", {"sweep.search_space": searched})

    with pytest.raises(SweepError, match=expected):
        search_space.check(read)
