"""A sweep on two machines, one of which is killed: `python -m bench.sweep`.

It runs in a clone of the current commit, on all of MNIST, with few epochs per trial. The machines are two Ray nodes on this
computer; one is killed during the sweep. The results count the runs in the MLflow store. Then DVC reproduces the best trial.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from bench import report
from bench.commands import ENVIRONMENT, timed
from pipeline.core.paths import Paths
from pipeline.data import history


def clone(folder: Path, epochs: int, trials: int) -> None:
    """Clone, set and commit the parameters of the sweep, and fetch and validate the data."""
    timed(Path(), "git", "clone", "--quiet", ".", str(folder))
    yaml = YAML()
    content = yaml.load(folder / "params.yaml")
    content["train"]["epochs"], content["sweep"]["trials"] = epochs, trials
    yaml.dump(content, folder / "params.yaml")
    timed(folder, sys.executable, "-m", "dvc", "repro", "validate")
    identity = ("-c", "user.name=Bench", "-c", "user.email=bench@localhost")
    timed(folder, "git", *identity, "commit", "--quiet", "--all", "--message", "Sweep")


@contextmanager
def machines() -> Iterator[Any]:
    """A cluster of two Ray nodes with one core each; the second is `cluster.second`."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.second = cluster.add_node(num_cpus=1)
        yield cluster
    finally:
        cluster.shutdown()


def sweep(folder: Path, cluster: Any, after: int) -> float:
    """Run a sweep, kill the second machine after `after` trials, and return the seconds.

    Raises:
        RuntimeError: the sweep failed.
    """
    start, printed = time.perf_counter(), []
    command = [sys.executable, "-m", "pipeline.sweep"]
    environment = ENVIRONMENT | {"RAY_ADDRESS": cluster.address}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=folder, env=environment, **pipes) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            printed.append(line)
            if f" {after} of " in line:
                cluster.remove_node(cluster.second, allow_graceful=False)
    if process.returncode:
        raise RuntimeError(f"the sweep exited with {process.returncode}: {''.join(printed)[-2000:]}")
    return time.perf_counter() - start


def table(folder: Path) -> list[dict[str, str]]:
    """The rows of trials.csv, the best first."""
    with (Paths(folder).sweep / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def stored_runs(folder: Path) -> list[tuple[str, str]]:
    """Trial and status of each child run of the sweep in the MLflow store."""
    import mlflow

    paths = Paths(folder)
    client = mlflow.MlflowClient(f"sqlite:///{paths.database}")
    parent = client.get_run(json.loads(paths.sweep_record.read_text())["run_id"])
    children = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    runs = client.search_runs([parent.info.experiment_id], children, max_results=10_000)
    return [(run.data.tags["trial"], run.info.status) for run in runs]


def reproduce(folder: Path, best: dict[str, str]) -> tuple[float, float]:
    """Validation loss and test accuracy of the experiment that the sweep queued for its best trial."""
    from dvc.api import DVCFileSystem

    timed(folder, sys.executable, "-m", "dvc", "exp", "run", "--run-all")
    paths, tree = Paths(), DVCFileSystem(str(folder), rev=f"sweep-{best['trial']}")
    with tempfile.TemporaryDirectory() as name:
        tree.get_file(str(paths.history), copy := f"{name}/history.csv")
        last = history.read(Path(copy))[-1]
    return last["val_loss"], json.loads(tree.read_text(str(paths.metrics)))["accuracy"]


def section(folder: Path, seconds: float, best_metrics: tuple[float, float], current: dict[str, Any], after: int) -> str:
    rows, runs = table(folder), stored_runs(folder)
    finished = Counter(trial for trial, status in runs if status == "FINISHED")
    once = sum(finished[row["trial"]] == 1 for row in rows)
    (default,) = [row for row in rows if all(row[f"train.{name}"] == str(value) for name, value in current.items())]
    best, (loss, accuracy) = rows[0], best_metrics
    lines = [
        ["trials requested", str(YAML(typ="safe").load(folder / "params.yaml")["sweep"]["trials"])],
        ["trials in trials.csv", str(len(rows))],
        ["trials with exactly one FINISHED run in MLflow", str(once)],
        ["runs on the killed machine, KILLED in MLflow", str(sum(status == "KILLED" for _, status in runs))],
        ["trials stopped early", str(sum(row["epochs"] != best["epochs"] for row in rows))],
        ["seconds", f"{seconds:.0f}"],
        ["validation loss with params.yaml", f"{float(default['val_loss']):.4f}"],
        ["validation loss of the best trial", f"{float(best['val_loss']):.4f}"],
        ["validation loss of the best trial, reproduced by DVC", f"{loss:.4f}"],
        ["test accuracy of the reproduced trial", f"{accuracy:.2%}"],
    ]
    described = report.machine("python -m bench.sweep", "ray", "optuna", "tensorflow")
    how = f"At most {best['epochs']} epochs per trial, on two Ray nodes of one core; one was killed after {after} trials."
    return f"{described} All of MNIST. {how}\n\n{report.table(['', ''], lines)}\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.sweep", description=__doc__)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=5, help="largest number per trial")
    options = parser.parse_args()
    after = options.trials // 3
    # A short folder name: Ray puts its sockets in it, and the paths of sockets are limited in length.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "clone"
        clone(folder, options.epochs, options.trials)
        content = YAML(typ="safe").load(folder / "params.yaml")
        current = {key: content["train"][key] for key in ("learning_rate", "batch_size")}
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0"}
        with machines() as cluster:
            seconds = sweep(folder, cluster, after)
        best_metrics = reproduce(folder, table(folder)[0])
        report.put("A sweep in which a machine is killed", section(folder, seconds, best_metrics, current, after))
    return 0


if __name__ == "__main__":
    sys.exit(main())
