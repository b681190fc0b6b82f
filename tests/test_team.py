"""A team's store: many pipelines at once lose nothing, on SQLite and on PostgreSQL behind a server with passwords."""

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
from tests.clones import Clone, clone_with_outputs, git, ran
from tests.conftest import Repository
from tests.imports import ROOT
from tests.servers import mlflow_server, postgres, ssh_server

AT_ONCE = 3  # python -m bench.team takes eight, on all of MNIST
PASSWORD = "a password of the tests"

# Imports MLflow once and is a pipeline in each tree: a run that is logged as training does, then the stage register.
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
            given = params.load(paths.params)
            with runs.training_run(given, paths) as live:
                for epoch, metrics in enumerate(history.read(paths.history), 1):
                    live.log_epoch(epoch, metrics)
                assert live.live, "the store was given up"
            files.write_json(paths.run, files.read_json(paths.run) | {"run_id": live.run_id})
            register.run(given, paths)
        except BaseException as error:
            print(f"{tree}: {error!r}", flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""


@pytest.fixture
def trees(built: Repository, tmp_path: Path) -> list[Path]:
    return copies(built, tmp_path)


def copies(built: Repository, folder: Path) -> list[Path]:
    """As many trees as pipelines, with everything done that needs no store."""
    made = [folder / f"tree-{number}" for number in range(AT_ONCE)]
    for tree in made:
        shutil.copytree(built.paths.root, tree, ignore=shutil.ignore_patterns("mlruns", "registration.json", "source"))
    return made


def run_at_once(trees: list[Path], environment: dict[str, str]) -> None:
    """Log and register a run from every tree at once, each in a process of its own."""
    command = [sys.executable, "-c", PIPELINES, *map(str, trees)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


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

    run_at_once(trees, {})

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
    run_at_once(trees, member)

    assert_nothing_is_lost(trees, member["MLFLOW_TRACKING_URI"])
    assert not list(trees[0].glob("mlruns/*"))


def test_who_clones_gets_everything_from_the_team_and_rebuilds_nothing(
    built: Repository, member: dict[str, str], subset: dict[str, Split], tmp_path: Path
) -> None:
    """A pipeline on the team's server, its outputs kept on a machine reached by SSH, and a fresh clone of it."""
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
