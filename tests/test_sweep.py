"""Sweeps on real Rays: one that is interrupted and goes on, and one on two machines of which one dies."""

import csv
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import mlflow
import pytest
from ruamel.yaml import YAML

from pipeline.core import files, params, space
from pipeline.core.datasets import Split
from pipeline.core.errors import SweepError
from pipeline.core.params import Params
from tests.clones import Clone, make_clone
from tests.conftest import edit_params
from tests.imports import ROOT

TRIALS = 6
SMALL_SWEEP = {
    "model.hidden_units": [32],
    "train.epochs": 3,
    "sweep.trials": TRIALS,
    "sweep.grace": 1,
    "sweep.space": {
        "train.learning_rate": {"low": 0.0005, "high": 0.01, "log": True},
        "train.batch_size": {"choices": [50, 100]},
    },
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, subset: dict[str, Split]) -> Clone:
    pytest.importorskip("ray", reason="Ray is not installed (make .venv/.sweep)")
    made = make_clone(tmp_path_factory.mktemp("sweep"), subset, SMALL_SWEEP)
    assert made.run("pipeline.fetch").returncode == 0
    return made


def started(clone: Clone, *arguments: str, address: str = "") -> "subprocess.Popen[str]":
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "RAY_ADDRESS": address}
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.sweep", *arguments],
        cwd=clone.paths.root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_until(process: "subprocess.Popen[str]", words: str) -> list[str]:
    """The lines up to the first that holds `words`."""
    seen = []
    for line in process.stdout or ():
        seen.append(line)
        if words in line:
            return seen
    raise AssertionError("".join(seen))


def table(clone: Clone) -> list[dict[str, str]]:
    with (clone.paths.sweep / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def children(clone: Clone) -> tuple[Any, list[Any]]:
    """The parent run of the last sweep, and its children."""
    client = mlflow.MlflowClient(clone.paths.tracking_uri)
    parent = client.get_run(files.read_json(clone.paths.sweep / "sweep.json")["run_id"])
    found = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    return parent, list(found)


def assert_all_accounted_for(clone: Clone) -> None:
    """Every trial of the table is finished in MLflow, once, with its parameters and a point for each epoch."""
    rows, (parent, runs) = table(clone), children(clone)
    finished = [run for run in runs if run.info.status == "FINISHED"]
    assert len(rows) == TRIALS
    assert sorted(run.data.tags["trial"] for run in finished) == sorted(row["trial"] for row in rows)
    assert Counter(run.info.status for run in runs).keys() <= {"FINISHED", "KILLED"}
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


def test_there_is_nothing_to_resume_before_a_sweep(clone: Clone) -> None:
    done = clone.run("pipeline.sweep", "--resume")

    assert done.returncode == 1
    assert "a sweep to resume" in done.stderr


def test_a_sweep_that_is_interrupted_goes_on_and_its_best_is_reproduced(clone: Clone) -> None:
    written = clone.paths.params.read_bytes()
    process = started(clone)
    read_until(process, f"2 of {TRIALS}")
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 130, printed
    assert "goes on from here" in printed
    ended = {run.data.tags["trial"]: run.info.run_id for run in children(clone)[1] if run.info.status == "FINISHED"}
    assert len(ended) >= 2

    process = started(clone, "--resume")
    printed, _ = process.communicate(timeout=300)

    assert process.returncode == 0, printed
    assert_all_accounted_for(clone)
    again = {run.data.tags["trial"]: run.info.run_id for run in children(clone)[1] if run.info.status == "FINISHED"}
    assert ended.items() <= again.items()
    rows = table(clone)
    current = [row for row in rows if float(row["train.learning_rate"]) == 0.002 and row["train.batch_size"] == "100"]
    assert float(rows[0]["val_loss"]) <= float(current[0]["val_loss"])
    assert clone.paths.params.read_bytes() == written  # offered, not applied

    name = f"sweep-{rows[0]['trial'].replace('_', '-')}"
    assert name in clone.run("dvc", "queue", "status").stdout
    done = clone.run("dvc", "exp", "run", "--run-all")
    assert done.returncode == 0, done.stdout + done.stderr
    history = clone.run("dvc", "get", ".", "data/model/history.csv", "--rev", name, "--out", "history.csv")
    assert history.returncode == 0, history.stderr
    with (clone.paths.root / "history.csv").open(newline="") as file:
        *_, last = csv.DictReader(file)
    assert float(last["val_loss"]) == pytest.approx(float(rows[0]["val_loss"]), rel=0.02)  # by another number of threads


def test_a_machine_that_dies_loses_no_trial(clone: Clone) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        other = cluster.add_node(num_cpus=1)
        process = started(clone, address=cluster.address)
        seen = read_until(process, f"1 of {TRIALS}")
        assert "on 2 machine(s)" in "".join(seen)

        cluster.remove_node(other, allow_graceful=False)
        printed, _ = process.communicate(timeout=300)
    finally:
        cluster.shutdown()

    assert process.returncode == 0, printed
    assert_all_accounted_for(clone)


def test_experiments_of_the_queue_land_in_one_store_by_their_names(clone: Clone) -> None:
    for name, rate in (("slow", 0.001), ("fast", 0.004)):
        done = clone.run("dvc", "exp", "run", "--queue", "--name", name, "--set-param", f"train.learning_rate={rate}")
        assert done.returncode == 0, done.stderr
    done = clone.run("dvc", "exp", "run", "--run-all", "--jobs", "2")

    assert done.returncode == 0, done.stdout + done.stderr
    found = mlflow.MlflowClient(clone.paths.tracking_uri).search_runs(["1"], "tags.dvc_experiment != ''")
    rates = {run.data.tags["dvc_experiment"]: run.data.params["train.learning_rate"] for run in found}
    assert rates.items() >= {"slow": "0.001", "fast": "0.004"}.items()


@pytest.fixture
def shipped(tmp_path: Path) -> Params:
    return params.load(ROOT / "params.yaml")


def test_the_space_that_comes_with_the_repository_is_sound_and_holds_the_default(shipped: Params) -> None:
    space.check(shipped)

    assert space.within(shipped)
    assert space.override(shipped, space.current(shipped)) == shipped


@pytest.mark.parametrize(
    ("searched", "expected"),
    [
        ({"train.rate": {"low": 1, "high": 2}}, "found train.rate"),
        ({"train.epochs": {"choices": [1, 2]}}, "found train.epochs"),
        ({"promote.alpha": {"low": 0.1, "high": 0.2}}, "found promote.alpha"),
        ({"train.learning_rate": {"low": -1, "high": 2}}, "learning_rate"),
        ({"model.activation": {"choices": ["relu", "no such"]}}, "activation"),
    ],
)
def test_a_space_of_what_cannot_be_is_refused(tmp_path: Path, searched: dict[str, Any], expected: str) -> None:
    YAML().dump(YAML().load(ROOT / "params.yaml"), tmp_path / "params.yaml")
    read = edit_params(tmp_path / "params.yaml", {"sweep.space": searched})

    with pytest.raises(SweepError, match=expected):
        space.check(read)
