"""Sweeps that are interrupted, killed, or lose a machine or the process of a trial, and the experiment that a sweep queues."""

import csv
import shutil
import signal
import subprocess
import time
from pathlib import Path

import mlflow
import pytest

from pipeline.core.paths import Paths
from pipeline.data.datasets import Split
from tests.chaos.conftest import LONG
from tests.clones import Clone
from tests.conftest import Repository, edit_params
from tests.test_sweep import (
    assert_every_trial_has_one_run,
    make_sweep_clone,
    read_until,
    start_sweep,
    sweep_runs,
    trials_table,
)

pytestmark = pytest.mark.skipif(not LONG, reason="runs several sweeps")


@pytest.fixture(scope="module")
def clone(built: Repository, tmp_path_factory: pytest.TempPathFactory, subset: dict[str, Split]) -> Clone:
    return make_sweep_clone(built, tmp_path_factory.mktemp("sweep") / "clone", subset)


def test_a_sweep_resumes_after_an_interruption_and_a_kill_without_repeating_a_trial(clone: Clone) -> None:
    before = clone.paths.params.read_bytes()
    # A checkpoint at every step, so that one is also written between a trial's last epoch and its end.
    process = start_sweep(clone, TUNE_GLOBAL_CHECKPOINT_S="0")
    read_until(process, "1 of 3")
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 130, printed
    assert "`make sweep RESUME=1` continues" in printed
    parent, runs = sweep_runs(clone)
    assert parent.info.status == "KILLED"
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}
    finished = {run.data.tags["trial"]: run.info.run_id for run in runs if run.info.status == "FINISHED"}
    assert finished

    process = start_sweep(clone, "--resume")
    read_until(process, " of 3: ")
    process.kill()
    process.communicate()
    process = start_sweep(clone, "--resume")
    printed, _ = process.communicate(timeout=300)

    assert process.returncode == 0, printed
    assert_every_trial_has_one_run(clone, 3)
    resumed = {run.data.tags["trial"]: run.info.run_id for run in sweep_runs(clone)[1] if run.info.status == "FINISHED"}
    assert finished.items() <= resumed.items()
    assert clone.paths.params.read_bytes() == before  # queued, not applied


def test_the_queued_experiment_reproduces_the_best_trial_and_logs_a_run_of_its_name(clone: Clone) -> None:
    """Runs after the previous test, whose best trial is queued."""
    best = trials_table(clone)[0]
    name = f"sweep-{best['trial']}"

    done = clone.run("dvc", "queue", "start")

    assert done.returncode == 0, done.stderr
    deadline = time.monotonic() + 300
    while name not in experiments(clone):  # `dvc queue status` would take a second of processor time
        assert time.monotonic() < deadline, clone.run("dvc", "queue", "status").stdout
        time.sleep(1)
    runs = mlflow.MlflowClient(clone.paths.tracking_uri).search_runs(["1"], "tags.dvc_experiment != ''")
    rates = {run.info.run_name: float(run.data.params["train.learning_rate"]) for run in runs}
    assert rates == {name: pytest.approx(float(best["train.learning_rate"]))}
    assert {run.info.run_name for run in runs if "test/accuracy" in run.data.metrics} == {name}
    history = clone.run("dvc", "get", ".", "data/model/history.csv", "--rev", name, "--out", "history.csv")
    assert history.returncode == 0, history.stderr
    with (clone.paths.root / "history.csv").open(newline="") as file:
        *_, last = csv.DictReader(file)
    assert last["val_loss"] == f"{float(best['val_loss']):.9g}"


def experiments(clone: Clone) -> list[str]:
    """The names of the experiments that ended, from the git references that DVC keeps for them."""
    command = ["git", "for-each-ref", "--format=%(refname:lstrip=-1)", "refs/exps"]
    return subprocess.run(command, cwd=clone.paths.root, check=True, capture_output=True, text=True).stdout.splitlines()


def test_no_trial_is_lost_when_a_machine_dies(clone: Clone, tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    edit_params(clone.paths.params, {"sweep.trials": 12})
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        other = cluster.add_node(num_cpus=1)
        process = start_sweep(clone, RAY_ADDRESS=cluster.address)
        lines = read_until(process, "4 of 12")
        assert "on 2 machine(s)" in "".join(lines)

        cluster.remove_node(other, allow_graceful=False)
        printed, _ = process.communicate(timeout=600)
    finally:
        cluster.shutdown()

    assert process.returncode == 0, printed
    assert_every_trial_has_one_run(clone, 12)
    assert "KILLED" in {run.info.status for run in sweep_runs(clone)[1]}  # the trials that were running on the machine


KILL_TRIALS = """
def _die(rate):
    import os
    for kind in ("always", "once"):
        path = f"{FOLDER}/{kind}"
        if rate == 0.002:  # the trial with the current params.yaml
            return
        if not os.path.exists(path):
            with open(path, "x") as file:
                file.write(repr(rate))
            os._exit(1)
        if kind == "always" and open(path).read() == repr(rate):
            os._exit(1)
"""


FAIL_TUNE_ONCE = """
def _fail_once():
    import os
    if not os.path.exists(f"{FOLDER}/failed"):
        open(f"{FOLDER}/failed", "x").close()
        raise AssertionError
"""


def insert_fault(module: Path, function: str, before: str, call: str, folder: Path) -> None:
    """Add `function` to `module`, and insert `call` before the line `before`."""
    text = module.read_text() + function.replace("{FOLDER}", str(folder))
    assert text.count(before) == 1
    module.write_text(text.replace(before, f"{call}{before}"))


def test_a_trial_whose_process_dies_is_retried_and_then_reported(clone: Clone, tmp_path: Path) -> None:
    """One of four trials kills its process at every start, one only at its first. Tune itself fails once."""
    failing = Clone(Paths(tmp_path / "failing"))
    shutil.copytree(
        clone.paths.root, failing.paths.root, ignore=shutil.ignore_patterns("mlruns", "sweep", "tmp"), symlinks=True
    )
    edit_params(failing.paths.params, {"sweep.trials": 4})
    trials = failing.paths.root / "pipeline" / "distributed" / "trials.py"
    insert_fault(trials, KILL_TRIALS, "    model = network.build(", "    _die(chosen.train.learning_rate)\n", tmp_path)
    insert_fault(trials, FAIL_TUNE_ONCE, "        self.observer.epoch_ended(", "        _fail_once()\n", tmp_path)

    process = start_sweep(failing)
    printed, _ = process.communicate(timeout=300)

    assert process.returncode == 0, printed
    assert "4 of 4" in printed
    assert "1 of 4 trials failed in 2 attempts each" in printed
    always, once = (float((tmp_path / kind).read_text()) for kind in ("always", "once"))
    rows = {float(row["train.learning_rate"]): row for row in trials_table(failing)}
    assert [rate for rate, row in rows.items() if not row["val_loss"]] == [always] == [list(rows)[-1]]
    statuses: dict[float, list[str]] = {}
    for run in sweep_runs(failing)[1]:
        statuses.setdefault(float(run.data.params["train.learning_rate"]), []).append(run.info.status)
    assert set(statuses.pop(always)) == {"FAILED", "KILLED"}
    assert set(statuses.pop(once)) == {"FINISHED", "KILLED"}
    for others in statuses.values():  # trials that ran when Tune failed were KILLED and restarted
        assert others.count("FINISHED") == 1
    assert (tmp_path / "failed").exists()
