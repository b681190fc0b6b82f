"""Whole pipelines that `make test` runs in part: with `--force`, concurrently with one store, and in retraining cycles."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.paths import TIME_DEPENDENT
from pipeline.data.datasets import Split
from tests.chaos.conftest import LONG
from tests.clones import make_clone, ran
from tests.conftest import Repository, write_source
from tests.imports import ROOT
from tests.servers import mlflow_server, postgres
from tests.test_pipeline import STAGES
from tests.test_retrain import Home, enlarged, publish_repository
from tests.test_team import PASSWORD, assert_nothing_is_lost, copy_trees

pytestmark = pytest.mark.skipif(not LONG, reason="runs the pipeline several times")


def test_a_forced_repro_writes_the_same_bytes(subset: dict[str, Split], tmp_path: Path) -> None:
    clone = make_clone(tmp_path / "clone", subset, {})
    clone.repro()
    before = clone.digests()

    assert ran(clone.repro("--force")) == STAGES

    after = clone.digests()
    assert before.keys() == after.keys() >= set(TIME_DEPENDENT)
    assert {name for name in before if before[name] != after[name]} <= set(TIME_DEPENDENT)


@pytest.mark.parametrize("where", ["SQLite", "PostgreSQL behind a server"])
def test_concurrent_pipelines_that_train_lose_nothing(
    where: str, built: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees = copy_trees(built, tmp_path)
    if where == "SQLite":
        (shared := tmp_path / "store").mkdir()
        for tree in trees:
            (tree / "mlruns").symlink_to(shared)
        train_and_register(trees)
        assert_nothing_is_lost(trees, f"sqlite:///{shared}/mlflow.db")
        return
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    with postgres(tmp_path) as store, mlflow_server(tmp_path, store, workers=2, password=PASSWORD) as (uri, _):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        train_and_register(trees)
        assert_nothing_is_lost(trees, uri)


def train_and_register(trees: list[Path]) -> None:
    """Run both stages in every tree, one process per tree, all at the same time."""
    command = " && ".join(f'"$0" -m pipeline.{stage}' for stage in ("train", "register"))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    processes = [subprocess.Popen(["sh", "-c", command, sys.executable], cwd=tree, env=environment, **pipes) for tree in trees]
    for process in processes:
        printed, _ = process.communicate(timeout=600)
        assert process.returncode == 0, printed


def test_retraining_starts_from_nothing_and_promotes_what_it_trains_on_more_data(
    subset: dict[str, Split], mnist: dict[str, Split], tmp_path: Path
) -> None:
    source = write_source(tmp_path / "source", subset)
    with mlflow_server(tmp_path) as (uri, _):
        home = Home(tmp_path, uri)
        publish_repository(home, source, subset)
        start = home.state()[0]

        first = home.run_cycle("first", FIRST="1")
        changed = home.git("diff", "--name-only", f"{start}..{home.state()[0]}").split()
        write_source(source, enlarged(subset, 9000, mnist["train"]))
        second = home.run_cycle("second")

        assert (first.code, second.code) == (0, 0), first.printed + second.printed
        assert "pipeline.train" in first.printed
        assert "pipeline.train" in second.printed
        assert set(changed) == {"dvc.lock", "data/evaluation/metrics.json", "data/model/parity.json"}
        assert "mnist-dense@v1.1.0" in home.state()[1]
