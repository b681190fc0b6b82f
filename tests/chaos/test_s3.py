"""Outputs and artifacts in a bucket, as docs/team.md shows, on a server of S3 that checks credentials."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core import files
from pipeline.core.paths import Paths
from pipeline.data.datasets import Split
from tests.chaos.conftest import LONG, Chaos
from tests.clones import Clone, clone_with_outputs, git, ran
from tests.conftest import Repository
from tests.imports import ROOT
from tests.servers import BUCKET, free_port, mlflow_server, s3_client, s3_server
from tests.test_promote import LOW
from tests.test_team import PASSWORD, assert_nothing_is_lost, copy_trees, run_concurrently

KIND = "S3"
SERVER = ROOT / "team" / "server.sh"
ADDRESS = f"s3://{BUCKET}/outputs"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with s3_server(tmp_path_factory.mktemp("s3")) as variables:
        yield variables


@pytest.fixture
def member(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Give this process the credentials, and nothing else of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    return s3


@pytest.fixture
def team(built: Repository, subset: dict[str, Split], member: dict[str, str], tmp_path: Path) -> Clone:
    """A clone with all outputs and without a remote."""
    clone = clone_with_outputs(built, tmp_path / "team", subset, LOW)
    git(clone.paths.root, "add", "--all")
    git(clone.paths.root, "commit", "--quiet", "--message", "Results")
    return clone


def succeed(clone: Clone, *command: str) -> str:
    done = clone.run(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def git_output(clone: Clone, *command: str) -> str:
    return subprocess.run(["git", *command], cwd=clone.paths.root, check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(not LONG, reason="starts DVC ten times")
def test_a_fresh_clone_pulls_from_a_bucket_and_rebuilds_nothing(
    team: Clone, member: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The endpoint is in .dvc/config, as for a store that is not Amazon's, and the credentials are each person's own."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    succeed(team, "pipeline.remote", ADDRESS)
    succeed(team, "dvc", "remote", "modify", "store", "endpointurl", member["AWS_ENDPOINT_URL"])
    succeed(team, "dvc", "push")
    git(team.paths.root, "commit", "--quiet", "--all", "--message", "Keep outputs in a bucket")
    git(tmp_path, "clone", "--quiet", str(team.paths.root), "fresh")
    fresh = Clone(Paths(tmp_path / "fresh"))
    shutil.rmtree(tmp_path / "team-source")

    succeed(fresh, "dvc", "pull")

    assert ran(fresh.repro()) == []
    assert fresh.digests() == team.digests()
    assert member["AWS_SECRET_ACCESS_KEY"] not in (fresh.paths.root / ".dvc" / "config").read_text()


def pull_into_an_empty_cache(clone: Clone) -> "subprocess.CompletedProcess[str]":
    cache = clone.paths.root / ".dvc" / "cache" / "files" / "md5"
    kept = cache.rename(clone.paths.root.with_name("kept"))
    pulled = clone.run("dvc", "pull")
    shutil.rmtree(cache, ignore_errors=True)
    kept.rename(cache)
    return pulled


# What is wrong, and what the errors of push, pull and a retraining cycle name.
FAULTS = {
    "a wrong secret key": ({"AWS_SECRET_ACCESS_KEY": "wrong"}, ADDRESS, "signature|Forbidden"),
    "an unknown access key": ({"AWS_ACCESS_KEY_ID": "wrong"}, ADDRESS, "Access Key Id|Forbidden"),
    "no credentials": ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, ADDRESS, "Unable to locate credentials"),
    "a bucket that does not exist": ({}, "s3://missing/outputs", "bucket does not exist"),
    "nobody at the endpoint": (
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
        ADDRESS,
        'Could not connect to the endpoint URL: "http://127.0.0.1:9/bucket',
    ),
}


@pytest.mark.skipif(not LONG, reason="starts DVC five times for each fault")
@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_a_bucket_is_told_in_a_line(
    team: Clone, chaos: Chaos, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    variables, address, told = FAULTS[fault]
    succeed(team, "pipeline.remote", address)
    before = git_output(team, "rev-parse", "HEAD")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    results = [team.run("dvc", "push"), pull_into_an_empty_cache(team), team.run("pipeline.retrain", "--first")]

    for result in results:
        assert result.returncode != 0
        assert any(re.search(told, line) for line in result.stderr.splitlines()), result.stderr
        assert "Traceback" not in result.stderr
    assert git_output(team, "rev-parse", "HEAD") == before
    assert git_output(team, "tag") == ""
    assert ran(team.repro()) == []
    chaos.count(KIND, f"{fault}: push, pull and a retraining cycle say so, and nothing is recorded", 1, 1)


@pytest.mark.skipif(not LONG, reason="runs a retraining cycle")
def test_a_retraining_cycle_publishes_to_a_bucket(team: Clone, chaos: Chaos, tmp_path: Path) -> None:
    """The cycle commits the address; whoever has the credentials gets the champion, and all outputs in a fresh clone."""
    origin = tmp_path / "origin.git"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch", "main", str(origin))
    git(team.paths.root, "branch", "--quiet", "--move", "main")
    git(team.paths.root, "remote", "add", "origin", str(origin))
    git(team.paths.root, "push", "--quiet", "--set-upstream", "origin", "main")
    succeed(team, "pipeline.remote", ADDRESS)

    succeed(team, "pipeline.retrain", "--first")

    artifact = ("artifacts", "get", str(origin), "mnist-dense", "--stage", "champion", "--out", "model.onnx")
    succeed(team, "dvc", *artifact)
    assert files.sha256(team.paths.root / "model.onnx") == files.sha256(team.paths.onnx)
    git(tmp_path, "clone", "--quiet", str(origin), "fresh")
    fresh = Clone(Paths(tmp_path / "fresh"))
    succeed(fresh, "dvc", "pull")
    assert ran(fresh.repro()) == []
    assert fresh.digests() == team.digests()
    chaos.count(KIND, "a retraining cycle publishes to an empty bucket, and a fresh clone has everything", 1, 1)


@pytest.mark.skipif(not LONG, reason="three pipelines on the team's server")
def test_pipelines_without_access_to_the_bucket_keep_their_artifacts_there(
    built: Repository, s3: dict[str, str], chaos: Chaos, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The test's S3 refuses addresses that a server signs, so that a client which goes past the server gets nothing."""
    trees = copy_trees(built, tmp_path)
    for name, value in {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": PASSWORD}.items():
        monkeypatch.setenv(name, value)
    artifacts = f"s3://{BUCKET}/artifacts"
    with mlflow_server(tmp_path, workers=2, password=PASSWORD, artifacts=artifacts, variables=s3) as (uri, _):
        run_concurrently(trees, {"MLFLOW_TRACKING_URI": uri})

        assert_nothing_is_lost(trees, uri)
    assert not (tmp_path / "artifacts").exists()
    kept = s3_client(s3).list_objects_v2(Bucket=BUCKET, Prefix="artifacts/")["Contents"]
    assert len([entry for entry in kept if entry["Key"].endswith("/model.onnx")]) >= len(trees)
    chaos.count(KIND, "pipelines that know only the team's server keep their artifacts in its bucket", len(trees), len(trees))


@pytest.mark.skipif(not LONG, reason="starts the team's server")
def test_a_bucket_that_is_lost_while_the_server_runs_is_told_in_a_line(
    built: Repository, s3: dict[str, str], chaos: Chaos, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tree = Clone(Paths(copy_trees(built, tmp_path)[0]))
    s3_client(s3).create_bucket(Bucket="lost")
    variables = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": PASSWORD, "PYTHONPATH": str(ROOT)}
    with mlflow_server(tmp_path, password=PASSWORD, artifacts="s3://lost/artifacts", variables=s3) as (uri, _):
        s3_client(s3).delete_bucket(Bucket="lost")
        for name, value in (variables | {"MLFLOW_TRACKING_URI": uri}).items():
            monkeypatch.setenv(name, value)

        done = tree.run("pipeline.register")

    assert done.returncode == 1
    assert f"MLflow store {uri}: expected an answer, found" in done.stderr
    assert "500" in done.stderr
    assert "if it runs, its log has the cause" in done.stderr
    assert "Traceback" not in done.stderr
    assert "The specified bucket does not exist" in (tmp_path / "server.log").read_text()
    assert not tree.paths.registration.exists()
    chaos.count(KIND, "the bucket of the team's server is deleted: register says so, and records nothing", 1, 1)


@pytest.mark.skipif(not LONG, reason="starts the team's server for each fault")
@pytest.mark.parametrize("fault", FAULTS)
def test_the_teams_server_does_not_start_without_its_bucket(
    s3: dict[str, str], chaos: Chaos, fault: str, tmp_path: Path
) -> None:
    variables, address, told = FAULTS[fault]
    settings = {
        "STORE": f"sqlite:///{tmp_path}/store.db",
        "ARTIFACTS": address,
        "PASSWORD": PASSWORD,
        "SECRET": "of the tests",
    }
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PORT": str(free_port())}
    environment = os.environ | s3 | settings | path | variables

    done = subprocess.run([str(SERVER)], env=environment, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        f"error: ARTIFACTS={address}: expected a bucket at AWS_ENDPOINT_URL={environment['AWS_ENDPOINT_URL']} "
    )
    assert re.search(told, line)
    assert line.endswith(". Nothing was started.")
    assert not (tmp_path / "store.db").exists()
    chaos.count(KIND, f"{fault}: the team's server says so, and does not start", 1, 1)
