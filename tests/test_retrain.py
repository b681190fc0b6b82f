"""Retraining cycles: the steps of the scheduled job, in fresh clones, with real remotes and a real MLflow server."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import pytest
from ruamel.yaml import YAML

from pipeline.core import files
from pipeline.data.datasets import Split
from tests.clones import borrow_environment, clone_with_outputs, git, make_clone
from tests.conftest import Repository, edit_params, write_source
from tests.imports import ROOT
from tests.servers import mlflow_server
from tests.test_promote import LOW
from tests.web import closed

WORKFLOW = ROOT / ".github" / "workflows" / "retrain.yml"
STAGES_BEFORE_REGISTER = ("fetch", "validate", "train", "export", "evaluate", "explain")
CHECKS = "Lint and test the code that this job runs"  # these tests themselves


@dataclass
class Cycle:
    """The exit code and the output of the job's steps, and the clone in which they ran."""

    code: int
    printed: str
    clone: Path


@dataclass
class Home:
    """The remotes that the cycles clone from and publish to."""

    folder: Path
    tracking: str
    cycles: dict[str, Cycle] = field(default_factory=dict)

    @property
    def origin(self) -> Path:
        return self.folder / "origin.git"

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        done = subprocess.run(["git", *arguments], cwd=cwd or self.origin, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def state(self) -> tuple[str, str, str]:
        """The published commit, tags and champion."""
        client = mlflow.MlflowClient(self.tracking, self.tracking)  # the registry, too: `built` has set another
        try:
            champion = str(client.get_model_version_by_alias("mnist-dense", "champion").version)
        except mlflow.exceptions.MlflowException:
            champion = "none"
        return self.git("rev-parse", "main"), " ".join(self.git("tag").split()), champion

    def run_cycle(self, name: str, clone: Path | None = None, **inputs: str) -> Cycle:
        """Run the steps of the workflow in a new clone, or again in `clone`, up to the first that fails."""
        if clone is None:
            clone = self.folder / name
            self.git("clone", "--quiet", str(self.origin), str(clone), cwd=self.folder)
            borrow_environment(clone)
        printed, code = "", 0
        for step in steps():
            done = subprocess.run(
                ["bash", "-e", "-c", step["run"]],
                cwd=clone,
                env=self.environment(step, inputs),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            printed, code = printed + done.stdout, done.returncode
            if code:
                break
        self.cycles[name] = Cycle(code, printed, clone)
        return self.cycles[name]

    def environment(self, step: dict[str, Any], inputs: dict[str, str]) -> dict[str, str]:
        """The step's variables as GitHub fills them in. Your own git configuration is not used."""
        secrets = {"URL": str(self.folder / "dvc-remote"), "MLFLOW_TRACKING_URI": self.tracking}
        filled = {key: inputs.get(key, secrets.get(key, "")) for key in step.get("env", {})}
        filled = {key: value for key, value in filled.items() if not key.startswith("AWS_")}
        isolated = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "HOME": str(self.folder)}
        summary = {"CI": "true", "GITHUB_STEP_SUMMARY": str(self.folder / "summary.md")}
        return {**os.environ, **isolated, **summary, "MLFLOW_TRACKING_URI": self.tracking, **filled}


def steps() -> list[dict[str, Any]]:
    job = YAML(typ="safe").load(WORKFLOW)["jobs"]["retrain"]
    return [step for step in job["steps"] if "run" in step and step.get("name") != CHECKS]


def enlarged(data: dict[str, Split], count: int, train: Split) -> dict[str, Split]:
    return {"train": Split(train.images[:count], train.labels[:count]), "test": data["test"]}


def publish_repository(home: Home, source: Path, subset: dict[str, Split], built: Repository | None = None) -> None:
    """Create a bare repository of the working tree, with parameters for small data.

    If `built` is given, its results before register are in the commit and the DVC remote, so the first cycle does not train.
    """
    small = {"fetch.sources": [str(source)], "validate.rows": {"train": [500, 20000], "test": [1000, 1000]}}
    if built:
        tree = clone_with_outputs(built, home.folder / "tree", subset, LOW | small, *STAGES_BEFORE_REGISTER).paths.root
        shutil.copytree(tree / ".dvc" / "cache", home.folder / "dvc-remote")
        git(tree, "add", "--all")
        git(tree, "commit", "--quiet", "--message", "Results")
    else:
        tree = make_clone(home.folder / "tree", subset, LOW | small).paths.root
    home.git("init", "--quiet", "--bare", "--initial-branch", "main", str(home.origin), cwd=home.folder)
    home.git("push", "--quiet", str(home.origin), "HEAD:main", cwd=tree)


@pytest.fixture(scope="module")
def home(
    tmp_path_factory: pytest.TempPathFactory, built: Repository, subset: dict[str, Split], mnist: dict[str, Split]
) -> Iterator[tuple[Home, dict[str, tuple[str, str, str]]]]:
    """Run the cycles one after the other, and keep what was published after each."""
    folder = tmp_path_factory.mktemp("home")
    source = write_source(folder / "source", subset)
    with mlflow_server(folder) as (uri, _):
        home, states = Home(folder, uri), {}

        def run_cycle(name: str, data: dict[str, Split] | None = None, clone: Path | None = None, **inputs: str) -> None:
            if data:
                write_source(source, data)
            home.run_cycle(name, clone, **inputs)
            states[name] = home.state()

        publish_repository(home, source, subset, built)
        states["start"] = home.state()
        run_cycle("without a champion")
        run_cycle("first", clone=home.cycles["without a champion"].clone, FIRST="1")
        run_cycle("idle")
        change_opset(home)
        states["changed"] = home.state()
        hook = home.origin / "hooks" / "pre-receive"
        hook.write_text("#!/bin/sh\nexit 1\n")
        hook.chmod(0o755)
        run_cycle("interrupted")
        hook.unlink()
        run_cycle("completed")
        inverted = {"train": Split(255 - subset["train"].images, subset["train"].labels), "test": subset["test"]}
        run_cycle("bad", inverted)
        run_cycle("worse", enlarged(subset, 700, mnist["train"]))
        yield home, states


def change_opset(home: Home) -> None:
    """Push a change of params.yaml that exports the same weights to another file, without training."""
    clone = home.folder / "change"
    home.git("clone", "--quiet", str(home.origin), str(clone), cwd=home.folder)
    edit_params(clone / "params.yaml", {"export.opset": 17})
    git(clone, "commit", "--quiet", "--all", "--message", "Opset")
    git(clone, "push", "--quiet")


Cycles = tuple[Home, dict[str, tuple[str, str, str]]]


def test_nothing_is_promoted_in_a_store_without_a_champion(home: Cycles) -> None:
    cycles, states = home[0].cycles, home[1]

    assert cycles["without a champion"].code != 0
    assert "It may be the wrong store, or a lost one" in cycles["without a champion"].printed
    assert states["without a champion"] == states["start"]


def test_the_first_champion_is_committed_tagged_and_pushed(home: Cycles) -> None:
    remotes, states = home

    assert remotes.cycles["first"].code == 0, remotes.cycles["first"].printed
    commit, tags, champion = states["first"]
    assert tags == "mnist-dense#champion#1 mnist-dense@v1.0.0"
    assert champion != "none"
    assert remotes.git("rev-list", "-n", "1", "mnist-dense@v1.0.0") == commit
    assert "becomes champion" in remotes.git("log", "-1", "--format=%B", "main")
    assert "[skip ci]" in remotes.git("log", "-1", "--format=%B", "main")
    changed = remotes.git("diff", "--name-only", f"{states['start'][0]}..{commit}").split()
    assert changed == ["dvc.lock"]  # the metrics were committed before


def test_the_champion_can_be_downloaded_with_git_and_dvc_alone(home: Cycles, tmp_path: Path) -> None:
    remotes, _ = home
    champion = remotes.folder / "completed" / "data" / "model" / "model.onnx"
    remote = ["--remote", "store", "--remote-config", f"url={remotes.folder / 'dvc-remote'}"]

    command = ["dvc", "artifacts", "get", str(remotes.origin), "mnist-dense", "--stage", "champion", "-o", "model.onnx"]
    done = subprocess.run([sys.executable, "-m", *command, *remote], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    assert files.sha256(tmp_path / "model.onnx") == files.sha256(champion)


def test_nothing_is_trained_if_nothing_changed(home: Cycles) -> None:
    remotes, states = home

    assert remotes.cycles["idle"].code == 0, remotes.cycles["idle"].printed
    assert "nothing new" in remotes.cycles["idle"].printed
    assert "pipeline.train" not in remotes.cycles["idle"].printed
    assert states["idle"] == states["first"]


def test_the_next_cycle_completes_an_interrupted_one(home: Cycles) -> None:
    remotes, states = home

    assert remotes.cycles["interrupted"].code != 0
    assert "expected it to succeed" in remotes.cycles["interrupted"].printed
    assert states["interrupted"][:2] == states["changed"][:2]
    assert remotes.cycles["completed"].code == 0, remotes.cycles["completed"].printed
    assert "pipeline.train" not in remotes.cycles["completed"].printed
    assert "pipeline.export" not in remotes.cycles["completed"].printed
    assert "mnist-dense@v1.1.0" in states["completed"][1]
    assert states["completed"][2] == states["interrupted"][2] != states["first"][2]


def test_bad_data_fails_the_cycle_and_the_champion_stays(home: Cycles) -> None:
    remotes, states = home

    assert remotes.cycles["bad"].code != 0
    assert "pixel_minimum" in remotes.cycles["bad"].printed or "mean" in remotes.cycles["bad"].printed
    assert "pipeline.train" not in remotes.cycles["bad"].printed
    assert states["bad"] == states["completed"]
    assert remotes.git("status", "--porcelain", "--untracked-files=no", cwd=remotes.cycles["bad"].clone) == ""
    assert not files.read_json(remotes.cycles["bad"].clone / "data" / "retrain" / "report.json")["success"]


def test_an_inferior_model_is_refused_and_the_branch_stays(home: Cycles) -> None:
    remotes, states = home

    assert remotes.cycles["worse"].code == 0, remotes.cycles["worse"].printed
    assert "is refused" in remotes.cycles["worse"].printed
    assert states["worse"] == states["completed"]
    assert remotes.git("status", "--porcelain", "--untracked-files=no", cwd=remotes.cycles["worse"].clone) == ""


def test_the_job_page_shows_how_each_cycle_ended(home: Cycles) -> None:
    page = (home[0].folder / "summary.md").read_text(encoding="utf-8")

    heads = [line for line in page.splitlines() if line.startswith("# ")]
    assert [head.split()[2] for head in heads] == ["Failed", "Promoted", "Nothing", "Failed", "Promoted", "Failed", "Refused"]
    assert "| ⛔ paired test |" in page
    assert home[0].tracking in page


def test_make_stale_fails_after_max_age_days(home: Cycles) -> None:
    remotes, _ = home
    clone = remotes.cycles["worse"].clone
    environment = {**os.environ, "MLFLOW_TRACKING_URI": remotes.tracking}

    def stale() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(["make", "stale"], cwd=clone, env=environment, capture_output=True, text=True, check=False)

    assert stale().returncode == 0
    edit_params(clone / "params.yaml", {"retrain.max_age_days": 1e-9})
    result = stale()
    assert result.returncode != 0
    assert "refused" in result.stdout


def test_a_second_concurrent_cycle_is_refused(home: Cycles) -> None:
    from filelock import FileLock

    clone = home[0].cycles["worse"].clone
    with FileLock(clone / "data" / "retrain" / "lock"):
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.retrain"], cwd=clone, capture_output=True, text=True, check=False
        )

    assert done.returncode == 1
    assert "found another retraining cycle running" in done.stderr


def test_an_interrupted_cycle_restores_the_seed(home: Cycles) -> None:
    clone = home[0].cycles["bad"].clone
    params = clone / "params.yaml"
    before = params.read_text()
    command = [sys.executable, "-m", "pipeline.retrain", "--seed", "7"]
    process = subprocess.Popen(command, cwd=clone, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while params.read_text() == before:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)

    process.terminate()
    printed, _ = process.communicate()

    assert process.returncode == 130, printed
    assert params.read_text() == before


def test_a_checkout_with_other_changes_is_refused_even_without_a_store(home: Cycles) -> None:
    clone = home[0].cycles["idle"].clone
    (clone / "README.md").write_text("mine")

    environment = os.environ | {"MLFLOW_TRACKING_URI": closed()}
    command = [sys.executable, "-m", "pipeline.retrain"]
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "expected a checkout without changes, found README.md" in done.stderr
    assert (clone / "README.md").read_text() == "mine"
