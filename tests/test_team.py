"""A team's MLflow store: concurrent pipelines lose nothing, on SQLite and on PostgreSQL behind a server with a password."""

import getpass
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from ruamel.yaml import YAML

from pipeline.core import files
from pipeline.core.paths import Paths
from pipeline.data.datasets import Split
from tests.chaos.conftest import LONG
from tests.clones import Clone, clone_with_outputs, git, ran
from tests.conftest import Repository
from tests.imports import ROOT
from tests.servers import mlflow_server, postgres, ssh_server

CONCURRENT = 3  # python -m bench.team takes eight, on all of MNIST
PASSWORD = "a password of the tests"

# Import MLflow once, then fork a pipeline for each tree: it logs a run like training, and runs the stage register.
PIPELINES = """
import os, sys
from pathlib import Path
from pipeline import register
from pipeline.core import files, params
from pipeline.core.paths import Paths
from pipeline.data import history
from pipeline.tracking import registry, runs

children = []
for tree in sys.argv[1:]:
    if not (child := os.fork()):
        try:
            paths = Paths(Path(tree))
            read = params.load(paths.params)
            with runs.training_run(read, paths) as live:
                for epoch, metrics in enumerate(history.read(paths.history), 1):
                    live.log_epoch(epoch, metrics)
                assert live.live, "the store was given up"
            files.write_json(paths.run, files.read_json(paths.run) | {"run_id": live.run_id})
            register.run(read, paths)
        except BaseException as error:
            print(f"{tree}: {error!r}", flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""


@pytest.fixture
def trees(built: Repository, tmp_path: Path) -> list[Path]:
    return copy_trees(built, tmp_path)


def copy_trees(built: Repository, folder: Path) -> list[Path]:
    """Copy the built tree for each pipeline, without its store and registration."""
    trees = [folder / f"tree-{number}" for number in range(CONCURRENT)]
    for tree in trees:
        shutil.copytree(built.paths.root, tree, ignore=shutil.ignore_patterns("mlruns", "registration.json", "source"))
    return trees


def run_concurrently(trees: list[Path], environment: dict[str, str]) -> None:
    """Log and register a run from every tree concurrently, each in its own process."""
    command = [sys.executable, "-c", PIPELINES, *map(str, trees)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def assert_nothing_is_lost(trees: list[Path], uri: str) -> None:
    """Check that each tree has a finished run with every metric point and file, and that its model has a version."""
    client = mlflow.MlflowClient(uri, uri)
    for tree in trees:
        paths = Paths(tree)
        registered = files.read_json(paths.registration)
        run = client.get_run(files.read_json(paths.run)["run_id"])
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
        assert version.tags["onnx_sha256"] == files.sha256(paths.onnx)  # trees with the same model may share a version
    assert len(client.search_runs([run.info.experiment_id])) == len(trees)


@pytest.mark.skipif(not LONG, reason="the next test runs the same on PostgreSQL: make chaos")
def test_concurrent_pipelines_create_the_default_store_and_lose_nothing(trees: list[Path], tmp_path: Path) -> None:
    shared = tmp_path / "store"
    shared.mkdir()
    for tree in trees:
        (tree / "mlruns").symlink_to(shared)

    run_concurrently(trees, {})

    assert_nothing_is_lost(trees, f"sqlite:///{shared}/mlflow.db")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a team's server with a password and a new PostgreSQL database."""
    folder = tmp_path_factory.mktemp("server")
    with postgres(folder) as store, mlflow_server(folder, store, workers=2, password=PASSWORD) as (uri, _):
        yield uri


@pytest.fixture
def member(server: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Set the environment variables that a member of the team needs, and return them."""
    variables = {"MLFLOW_TRACKING_URI": server, "MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": PASSWORD}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


def test_concurrent_pipelines_lose_nothing_on_postgresql_behind_a_server(trees: list[Path], member: dict[str, str]) -> None:
    run_concurrently(trees, member)

    assert_nothing_is_lost(trees, member["MLFLOW_TRACKING_URI"])
    assert not list(trees[0].glob("mlruns/*"))


@pytest.mark.skipif(not LONG, reason="starts DVC ten times: make chaos")
def test_a_fresh_clone_gets_everything_from_the_team_and_rebuilds_nothing(
    built: Repository, member: dict[str, str], subset: dict[str, Split], tmp_path: Path
) -> None:
    """Run a pipeline on the team's server, push its outputs over SSH, and pull them in a fresh clone."""
    (tmp_path / "ssh").mkdir()
    changes = {"tracking.experiment": "team", "tracking.model": "team"}
    team = clone_with_outputs(
        built, tmp_path / "team", subset, changes, "fetch", "validate", "train", "export", "evaluate", "explain"
    )
    team.paths.registration.unlink()
    assert ran(team.repro()) == ["register"]
    with ssh_server(tmp_path / "ssh") as (port, key):
        address = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{tmp_path}/store"
        own_key = ("remote", "modify", "--local", "store", "keyfile", str(key))
        for command in (("remote", "add", "--default", "store", address), own_key, ("push",)):
            done = team.run("dvc", *command)
            assert done.returncode == 0, done.stderr
        git(team.paths.root, "add", "--all")
        git(team.paths.root, "commit", "--quiet", "--message", "Add the remote")
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
