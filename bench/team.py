"""Eight concurrent pipelines on all of MNIST, logging to one new store: `python -m bench.team`.

Once with SQLite, once with PostgreSQL behind a server with passwords. Each pipeline is `dvc repro` in a separate clone.
Afterwards every run, metric point, artifact and model version must be in the store.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import report
from bench.commands import ENVIRONMENT, timed
from tests.servers import mlflow_server, postgres
from tests.test_team import PASSWORD, assert_nothing_is_lost

PIPELINES = 8


def clones(folder: Path, store: Path | None) -> list[Path]:
    """Clones of the current commit that share the MLflow store `store`, if given."""
    trees = [folder / f"clone-{number}" for number in range(PIPELINES)]
    for clone in trees:
        timed(Path(), "git", "clone", "--quiet", ".", str(clone))
        if store:
            (clone / "mlruns" / ".gitignore").unlink()
            (clone / "mlruns").rmdir()
            (clone / "mlruns").symlink_to(store)
    return trees


def repro_all(trees: list[Path], environment: Mapping[str, str]) -> float:
    """Run `dvc repro` in all trees at once and return the seconds.

    Raises:
        RuntimeError: a pipeline failed.
    """
    start, command = time.perf_counter(), [sys.executable, "-m", "dvc", "repro"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    processes = [subprocess.Popen(command, cwd=tree, env=ENVIRONMENT | environment, **pipes) for tree in trees]
    for process in processes:
        printed, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(printed[-2000:])
    return time.perf_counter() - start


def on_sqlite(folder: Path) -> float:
    (store := folder / "store").mkdir()
    trees = clones(folder, store)
    seconds = repro_all(trees, {})
    assert_nothing_is_lost(trees, f"sqlite:///{store}/mlflow.db")
    return seconds


def on_postgresql(folder: Path) -> float:
    user = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": PASSWORD}
    trees = clones(folder, None)
    with postgres(folder) as store, mlflow_server(folder, store, workers=2, password=PASSWORD) as (uri, _):
        seconds = repro_all(trees, user | {"MLFLOW_TRACKING_URI": uri})
        os.environ |= user
        assert_nothing_is_lost(trees, uri)
    return seconds


def main() -> int:
    rows = []
    for name, measure in (("SQLite", on_sqlite), ("PostgreSQL behind a server with passwords", on_postgresql)):
        with tempfile.TemporaryDirectory() as folder:
            rows.append([name, str(PIPELINES), f"{measure(Path(folder)):.0f}", "none"])
    described = report.machine("python -m bench.team", "mlflow", "tensorflow", "dvc")
    results = report.table(
        ["new store", "concurrent pipelines", "seconds in total", "lost runs, points, files or versions"], rows
    )
    report.put("Concurrent pipelines", f"{described} Each is a `dvc repro` of all of MNIST.\n\n{results}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
