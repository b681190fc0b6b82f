"""A team's store: many pipelines at once lose nothing, on SQLite and on PostgreSQL behind a server with passwords."""

import getpass
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pytest
from ruamel.yaml import YAML

from pipeline.core import files
from pipeline.core.paths import Paths
from pipeline.data.datasets import Split
from tests.clones import Clone, git, make_clone, ran
from tests.conftest import Repository
from tests.imports import ROOT
from tests.servers import mlflow_server, postgres, ssh_server

AT_ONCE = 4  # python -m bench.team takes eight, on all of MNIST
PASSWORD = "a password of the tests"
STAGES = ("train", "register")


@pytest.fixture
def trees(built: Repository, tmp_path: Path) -> list[Path]:
    """As many trees as pipelines, with everything done that needs no store."""
    made = [tmp_path / f"tree-{number}" for number in range(AT_ONCE)]
    for tree in made:
        shutil.copytree(built.paths.root, tree, ignore=shutil.ignore_patterns("mlruns", "registration.json", "source"))
    return made


@contextmanager
def started(trees: list[Path], environment: dict[str, str]) -> Iterator[list["subprocess.Popen[str]"]]:
    """Train and register in every tree at once, each in a process of its own."""
    command = " && ".join(f'"$0" -m pipeline.{stage}' for stage in STAGES)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_NUM_INTRAOP_THREADS": "1"} | environment
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    processes = [subprocess.Popen(["sh", "-c", command, sys.executable], cwd=tree, env=environment, **pipes) for tree in trees]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def wait(processes: list["subprocess.Popen[str]"]) -> None:
    for process in processes:
        printed, _ = process.communicate(timeout=300)
        assert process.returncode == 0, printed


def assert_nothing_is_lost(trees: list[Path], uri: str) -> None:
    """Each tree's run is finished, with every point of its curves and every file, and is a version of its own."""
    client = mlflow.MlflowClient(uri, uri)
    versions = set()
    for tree in trees:
        paths = Paths(tree)
        registered = files.read_json(paths.registration)
        run = client.get_run(registered["run_id"])
        assert run.info.status == "FINISHED"
        assert run.data.metrics["test/accuracy"] == files.read_json(paths.metrics)["accuracy"]
        epochs = YAML(typ="safe").load(paths.params)["train"]["epochs"]
        for curve in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
            points = client.get_metric_history(run.info.run_id, f"epoch/{curve}")
            assert [point.step for point in points] == list(range(1, epochs + 1)), curve
        folder = Path(client.download_artifacts(run.info.run_id, "onnx", str(tree)))
        assert files.sha256(folder / "model.onnx") == files.sha256(paths.onnx)
        assert client.list_artifacts(run.info.run_id, "plots")
        version = client.get_model_version("mnist-dense", str(registered["version"]))
        assert version.run_id == run.info.run_id
        versions.add(version.version)
    assert len(versions) == len(client.search_runs([run.info.experiment_id])) == len(trees)


def test_many_pipelines_at_once_make_the_default_store_and_lose_nothing(trees: list[Path], tmp_path: Path) -> None:
    shared = tmp_path / "store"
    shared.mkdir()
    for tree in trees:
        (tree / "mlruns").symlink_to(shared)

    with started(trees, {}) as processes:
        wait(processes)

    assert_nothing_is_lost(trees, f"sqlite:///{shared}/mlflow.db")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of a team: PostgreSQL behind it, on a database that was empty, and a password before it."""
    folder = tmp_path_factory.mktemp("server")
    with postgres(folder) as store, mlflow_server(folder, store, workers=2, password=PASSWORD) as (uri, _):
        yield uri


@pytest.fixture
def member(server: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """All that a member of the team needs in the environment, and it is there."""
    needed = {"MLFLOW_TRACKING_URI": server, "MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": PASSWORD}
    for name, value in needed.items():
        monkeypatch.setenv(name, value)
    return needed


def test_many_pipelines_at_once_lose_nothing_on_postgresql_behind_a_server(trees: list[Path], member: dict[str, str]) -> None:
    with started(trees, member) as processes:
        wait(processes)

    assert_nothing_is_lost(trees, member["MLFLOW_TRACKING_URI"])
    assert not list(trees[0].glob("mlruns/*"))


def test_who_clones_gets_everything_from_the_team_and_rebuilds_nothing(
    member: dict[str, str], subset: dict[str, Split], tmp_path: Path
) -> None:
    """The whole pipeline on the team's server, its outputs kept on a machine reached by SSH, and a fresh clone of it."""
    (tmp_path / "ssh").mkdir()
    changes = {"model.hidden_units": [32], "tracking.experiment": "team", "tracking.model": "team"}
    team = make_clone(tmp_path / "team", subset, changes)
    assert ran(team.repro()) == [*YAML(typ="safe").load(team.paths.root / "dvc.yaml")["stages"]]
    with ssh_server(tmp_path / "ssh") as (port, key):
        address = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{tmp_path}/store"
        own_key = ("remote", "modify", "--local", "store", "keyfile", str(key))
        for command in (("remote", "add", "--default", "store", address), own_key, ("push",)):
            done = team.run("dvc", *command)
            assert done.returncode == 0, done.stderr
        git(team.paths.root, "add", "--all")
        git(team.paths.root, "commit", "--quiet", "--message", "Keep outputs there")
        git(tmp_path, "clone", "--quiet", str(team.paths.root), "fresh")
        fresh = Clone(Paths(tmp_path / "fresh"))
        for command in (own_key, ("pull",)):
            done = fresh.run("dvc", *command)
            assert done.returncode == 0, done.stderr
    shutil.rmtree(tmp_path / "team-source")

    assert ran(fresh.repro()) == []
    assert fresh.digests() == team.digests()
    summary = fresh.run("pipeline.summary")
    registered = files.read_json(fresh.paths.registration)
    assert "registered as team version 1" in summary.stdout, summary.stderr
    mlflow.set_tracking_uri(member["MLFLOW_TRACKING_URI"])
    mlflow.set_registry_uri(member["MLFLOW_TRACKING_URI"])
    client = mlflow.MlflowClient()
    assert (
        client.get_run(registered["run_id"]).data.metrics["test/accuracy"] == files.read_json(fresh.paths.metrics)["accuracy"]
    )
    pulled = mlflow.artifacts.download_artifacts("models:/team@challenger", dst_path=str(tmp_path / "pulled"))
    assert files.sha256(Path(pulled) / "model.onnx") == files.sha256(fresh.paths.onnx)
    assert not list(fresh.paths.store.glob("*.db"))


def test_a_wrong_password_is_told_before_anything_is_trained(trees: list[Path], tmp_path: Path) -> None:
    wrong = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "not " + PASSWORD}
    before = files.sha256(Paths(trees[0]).keras)
    with mlflow_server(tmp_path, password=PASSWORD) as (uri, _):
        command = [sys.executable, "-m", "pipeline.train"]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": uri} | wrong
        done = subprocess.run(command, cwd=trees[0], env=environment, capture_output=True, text=True, timeout=120)

    assert done.returncode == 1
    assert f"MLflow store {uri}: expected valid credentials, found user or password wrong" in done.stderr
    assert PASSWORD not in done.stderr + done.stdout
    assert files.sha256(Paths(trees[0]).keras) == before
