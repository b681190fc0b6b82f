"""Eight pipelines at once on all of MNIST, into one store that does not exist before: `python -m bench.team`.

Once into the SQLite store, once into PostgreSQL behind a server with passwords. Each is `dvc repro` in a clone of its own.
Then every run, metric point, artifact and model version is looked for.
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

AT_ONCE = 8


def clones(folder: Path, store: Path | None) -> list[Path]:
    """Clones of what is committed, with `store` as the MLflow store of all, where it is given."""
    made = [folder / f"clone-{number}" for number in range(AT_ONCE)]
    for clone in made:
        timed(Path(), "git", "clone", "--quiet", ".", str(clone))
        if store:
            (clone / "mlruns" / ".gitignore").unlink()
            (clone / "mlruns").rmdir()
            (clone / "mlruns").symlink_to(store)
    return made


def reproduced(trees: list[Path], environment: Mapping[str, str]) -> float:
    """Seconds of `dvc repro` in all of the trees at once.

    Raises:
        RuntimeError: one failed.
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
    seconds = reproduced(trees, {})
    assert_nothing_is_lost(trees, f"sqlite:///{store}/mlflow.db")
    return seconds


def on_postgresql(folder: Path) -> float:
    who = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": PASSWORD}
    trees = clones(folder, None)
    with postgres(folder) as store, mlflow_server(folder, store, workers=2, password=PASSWORD) as (uri, _):
        seconds = reproduced(trees, who | {"MLFLOW_TRACKING_URI": uri})
        os.environ |= who
        assert_nothing_is_lost(trees, uri)
    return seconds


def main() -> int:
    rows = []
    for name, measured in (("SQLite", on_sqlite), ("PostgreSQL behind a server with passwords", on_postgresql)):
        with tempfile.TemporaryDirectory() as folder:
            rows.append([name, str(AT_ONCE), f"{measured(Path(folder)):.0f}", "none"])
    described = report.machine("python -m bench.team", "mlflow", "tensorflow", "dvc")
    figures = report.table(
        ["store, new", "pipelines at once", "seconds for all", "runs, points, files or versions lost"], rows
    )
    report.put("Pipelines at once", f"{described} Each is a `dvc repro` of all of MNIST.\n\n{figures}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
