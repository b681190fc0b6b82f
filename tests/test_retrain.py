"""Retraining cycles: the steps of the scheduled job, in fresh clones with real remotes and a real MLflow server.

Most cycles run in this process, with models that the test makes instead of training them: tests/desk.py.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnx
import pytest
from filelock import FileLock
from ruamel.yaml import YAML

from pipeline import register, retrain
from pipeline.core import files
from pipeline.core import params as parameters
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.data.datasets import Split
from pipeline.inference import convert
from pipeline.monitoring import extra_entry
from pipeline.promotion import git_tags, retraining
from pipeline.promotion.errors import RetrainError
from pipeline.promotion.publishing import Publisher
from pipeline.promotion.repository import Repository as Git
from tests import desk as desks
from tests import published
from tests.chaos.conftest import LONG
from tests.clones import borrow_environment, clone_with_outputs, make_clone
from tests.conftest import Repository, edit_params, write_source
from tests.desk import Desk
from tests.imports import ROOT
from tests.published import git, person
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

    def commit(self, tree: Path) -> None:
        self.git("add", "--all", cwd=tree)
        self.git(
            "-c",
            "user.name=tester",
            "-c",
            "user.email=tester@localhost",
            "commit",
            "--quiet",
            "--message",
            "Results",
            cwd=tree,
        )

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
        home.commit(tree)
    else:
        tree = make_clone(home.folder / "tree", subset, LOW | small).paths.root
    home.git("init", "--quiet", "--bare", "--initial-branch", "main", str(home.origin), cwd=home.folder)
    home.git("push", "--quiet", str(home.origin), "HEAD:main", cwd=tree)


@pytest.fixture(scope="module")
def home(
    tmp_path_factory: pytest.TempPathFactory, built: Repository, subset: dict[str, Split]
) -> Iterator[tuple[Home, dict[str, tuple[str, str, str]]]]:
    """Run a cycle with a new champion, and keep what was published before and after it."""
    folder = tmp_path_factory.mktemp("home")
    source = write_source(folder / "source", subset)
    with mlflow_server(folder) as (uri, _):
        home = Home(folder, uri)
        publish_repository(home, source, subset, built)
        states = {"start": home.state()}
        home.run_cycle("first", FIRST="1")
        states["first"] = home.state()
        yield home, states


Cycles = tuple[Home, dict[str, tuple[str, str, str]]]


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
    assert changed == [".dvc/config", "dvc.lock"]  # the metrics were committed before


def test_the_champion_can_be_downloaded_with_git_and_dvc_alone(home: Cycles, tmp_path: Path) -> None:
    remotes, _ = home
    champion = remotes.cycles["first"].clone / "data" / "model" / "model.onnx"

    command = ["dvc", "artifacts", "get", remotes.origin.as_uri(), "mnist-dense", "--stage", "champion", "-o", "model.onnx"]
    done = subprocess.run([sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    assert files.sha256(tmp_path / "model.onnx") == files.sha256(champion)


@pytest.mark.skipif(not LONG, reason="runs one more cycle of the job; a failed stage is tested below in this process")
def test_bad_data_fails_the_cycle_and_the_champion_stays(home: Cycles, subset: dict[str, Split]) -> None:
    remotes, states = home
    inverted = Split(255 - subset["train"].images, subset["train"].labels)
    write_source(remotes.folder / "source", {"train": inverted, "test": subset["test"]})

    bad = remotes.run_cycle("bad")

    assert bad.code != 0
    assert "pipeline.train" not in bad.printed
    assert remotes.state() == states["first"]
    assert remotes.git("status", "--porcelain", "--untracked-files=no", cwd=bad.clone) == ""
    assert not files.read_json(bad.clone / "data" / "retrain" / "report.json")["success"]
    failed = (remotes.folder / "summary.md").read_text(encoding="utf-8").partition("# ❌ Failed")[2]
    assert "failed to reproduce 'validate'" in failed
    assert "mean" in failed


def test_the_job_page_shows_the_rules_and_the_run_of_the_champion(home: Cycles) -> None:
    page = (home[0].folder / "summary.md").read_text(encoding="utf-8")

    assert page.startswith("# ✅ Promoted")
    assert "| ✅ accuracy |" in page
    assert "This is the first retraining." in page
    assert home[0].tracking in page


@pytest.fixture
def desk(built: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A clone of a remote without a champion; its store holds the model of its tree."""
    monkeypatch.delenv("CI", raising=False)
    with person():
        home = published.Home(tmp_path)
        git(tmp_path, "init", "--quiet", "--bare", "--initial-branch", "main", "origin.git")
        shutil.copy(built.paths.root / "params.yaml", tmp_path / "params.yaml")
        edit_params(tmp_path / "params.yaml", LOW)
        desk = desks.create(home, "desk", built.paths.root, tmp_path / "params.yaml")
        shutil.copytree(built.paths.store, desk.paths.store)
        desks.patch({desk.root: desk}, monkeypatch)
        yield desk


def alter(desk: Desk) -> tuple[int, str]:
    """The stages, which make a slightly different model."""
    proto = onnx.load(desk.paths.onnx)
    kernel = max(proto.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    changed = (onnx.numpy_helper.to_array(kernel) * (1 + 1e-3)).astype(np.float32)
    kernel.CopyFrom(onnx.numpy_helper.from_array(changed, kernel.name))
    onnx.save(proto, desk.paths.onnx)
    onnx.save(convert.quantize(proto, datasets.open_split(desk.paths, "train").images), desk.paths.int8)
    register.run(desk.params, desk.paths)
    desk.lock()
    return 0, ""


def change_parameters(desk: Desk) -> None:
    """Commit and push other parameters, so that the next model is of another lineage."""
    edit_params(desk.root / "params.yaml", {"export.int8_agreement": 0.5})
    desk.git("commit", "--quiet", "--all", "--message", "Other parameters")
    desk.git("push", "--quiet")
    desk.stages = [alter]


def sha256_pulled(desk: Desk) -> str:
    desk.home.pulled()
    return files.sha256(desk.home.folder / "pulled")


def test_nothing_is_promoted_in_a_store_without_a_champion(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    before = desk.home.refs()

    result = desk.retrain()

    assert result.code == 1
    assert "It may be the wrong store, or a lost one" in result.printed
    assert desk.home.refs() == before


def test_nothing_is_done_if_nothing_changed(desk: Desk) -> None:
    first = desk.retrain()
    assert (first.code, sha256_pulled(desk)) == (0, files.sha256(desk.paths.onnx)), first.printed
    assert "the challenger is champion, and the remote answers with it" in first.printed
    before = desk.home.refs()

    second = desk.retrain()

    assert (second.code, desk.home.refs()) == (0, before), second.printed
    assert "nothing new" in second.printed


def test_the_next_cycle_completes_one_whose_push_was_refused(desk: Desk) -> None:
    desk.retrain()
    before = desk.home.refs()
    change_parameters(desk)
    hook = desk.home.origin / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'the budget is spent' >&2\nexit 1\n")
    hook.chmod(0o755)

    refused = desk.retrain()
    hook.unlink()

    assert refused.code == 1
    assert "remote: the budget is spent" in refused.printed
    assert "remote: the budget is spent" in desk.paths.retrain_summary.read_text()
    assert len(desk.home.refs()) == len(before)
    completed = desk.retrain()
    assert completed.code == 0, completed.printed
    assert sha256_pulled(desk) == files.sha256(desk.paths.onnx)
    assert "refs/tags/mnist-dense@v1.1.0" in desk.home.refs()
    assert desk.verify().code == 0


def test_a_model_that_is_not_superior_is_refused_and_the_branch_stays(desk: Desk) -> None:
    desk.retrain()
    before, desk.stages = desk.home.refs(), [alter]

    result = desk.retrain()

    assert (result.code, desk.home.refs()) == (0, before), result.printed
    assert "is refused" in result.printed
    assert desk.git("status", "--porcelain", "--untracked-files=no") == ""
    assert "# ⛔ Refused" in desk.paths.retrain_summary.read_text()
    assert "| ⛔ paired test |" in desk.paths.retrain_summary.read_text()


def test_a_failed_stage_is_named_in_the_summary(desk: Desk) -> None:
    reason = "\n  error: 2 of 45 expectations are broken: train mean\n  ERROR: failed to reproduce 'validate': exited with 1"
    desk.stages = [lambda _: (1, reason)]

    result = desk.retrain()

    assert result.code == 1
    assert "train mean" in result.printed
    assert "failed to reproduce 'validate'" in desk.paths.retrain_summary.read_text()


def test_without_a_git_remote_the_champion_is_committed_and_tagged_here(desk: Desk) -> None:
    desk.git("remote", "remove", "origin")

    result = desk.retrain()

    assert result.code == 0, result.printed
    assert "committed and tagged here; there is no remote to publish it to" in result.printed
    assert desk.git("tag").split() == ["mnist-dense#champion#1", "mnist-dense@v1.0.0"]


def test_a_dvc_remote_of_this_checkout_alone_is_refused_before_anything_runs(desk: Desk) -> None:
    config = desk.root / ".dvc" / "config"
    shutil.move(config, desk.root / ".dvc" / "config.local")
    config.write_text("")
    desk.git("commit", "--quiet", "--all", "--message", "No remote")
    desk.stages = [alter]

    for result in (desk.retrain(), desk.promote(tag=True)):
        assert result.code == 1
        assert "found it only in .dvc/config.local" in result.printed
    assert len(desk.stages) == 1
    assert desk.git("tag") == ""


def test_an_address_that_make_remote_recorded_is_committed_and_pushed(desk: Desk) -> None:
    desk.retrain()
    config = desk.root / ".dvc" / "config"
    config.write_text(config.read_text().replace("/store", "/moved"))

    result = desk.retrain()

    assert result.code == 0, result.printed
    assert "/moved" in git(desk.home.origin, "show", "main:.dvc/config")
    assert sha256_pulled(desk) == files.sha256(desk.paths.onnx)


def test_an_address_that_cannot_keep_outputs_is_not_committed(desk: Desk) -> None:
    desk.stages, head = [alter], desk.git("rev-parse", "HEAD")
    (desk.home.folder / "a file").touch()
    config = desk.root / ".dvc" / "config"
    config.write_text(config.read_text().replace("/store", "/a file/store"))

    result = desk.retrain()

    assert result.code == 1
    assert "`dvc push --run-cache`: expected it to succeed, found:" in result.printed
    assert desk.git("rev-parse", "HEAD") == head
    assert len(desk.stages) == 1


def test_credentials_beside_the_address_are_not_committed(desk: Desk) -> None:
    desk.stages, head = [alter], desk.git("rev-parse", "HEAD")
    config = desk.root / ".dvc" / "config"
    config.write_text(f"{config.read_text()}    password = hunter2\n")

    result = desk.retrain()

    assert result.code == 1
    assert "expected .dvc/config without credentials, because it is in git, found password of store." in result.printed
    assert "hunter2" not in result.printed
    assert desk.git("rev-parse", "HEAD") == head
    assert len(desk.stages) == 1


def label(desk: Desk) -> str:
    """What `make label` leaves: a data set that DVC tracks, and its entry in params.yaml."""
    source = "data/collected/recent-2026-11-26.npz"
    (desk.root / ".gitignore").write_text("/data/*\n!/data/collected\n/mlruns\n")
    desk.git("commit", "--quiet", "--all", "--message", "Keep data/collected")
    desk.git("push", "--quiet")
    (desk.root / "data" / "collected").mkdir()
    images, labels = (np.load(desk.paths.raw / f"test_{kind}.npy")[:9] for kind in ("images", "labels"))
    np.savez(desk.root / source, x_test=255 - images, y_test=labels)
    Git(desk.root).dvc("add", "--quiet", source)
    extra_entry.append(desk.root / "params.yaml", {"name": "recent-2026-11-26", "source": source, "kind": "recent"})
    return source


def test_new_labels_are_committed_and_published_with_the_champion(desk: Desk) -> None:
    desk.retrain()
    change_parameters(desk)
    source = label(desk)

    result = desk.retrain()

    assert result.code == 0, result.printed
    assert "committed the labelled images recent-2026-11-26" in result.printed
    assert "Add labelled images: recent-2026-11-26" in desk.git("log", "--format=%s")
    assert f"{source}.dvc" in git(desk.home.origin, "ls-tree", "-r", "--name-only", "main")
    assert sha256_pulled(desk) == files.sha256(desk.paths.onnx)


def test_new_labels_beside_another_change_are_left_to_you(desk: Desk) -> None:
    desk.retrain()
    label(desk)
    edit_params(desk.root / "params.yaml", {"train.epochs": 3})
    before = desk.git("rev-parse", "HEAD")

    result = desk.retrain()

    assert result.code == 1
    assert "expected a checkout without changes, found params.yaml" in result.printed
    assert desk.git("rev-parse", "HEAD") == before


def test_a_cycle_with_nothing_new_says_what_to_label_and_why(desk: Desk) -> None:
    desk.retrain()
    report = {"below": True, "onnx_sha256": files.sha256(desk.paths.onnx), "accuracy": 0.884, "interval": [0.8, 0.94]}
    files.write_json(desk.paths.live_accuracy_report, {**report, "images": 100, "set": "recent-1", "minimum": 0.95})
    checks = {"confidence": {"drifted": True}, "ink_fraction": {"drifted": False}}
    files.write_json(desk.paths.drift_report, {"drifted": True, "onnx_sha256": report["onnx_sha256"], "checks": checks})

    result = desk.retrain()

    assert result.code == 0
    assert "88.4% [80.0%, 94.0%] of 100 images of recent-1 are right: surely below 95.0%" in result.printed
    assert "what is served differs from the training data in confidence" in result.printed
    assert result.printed.count("`make select SOURCE=...`, `make label`, `make retrain`") == 2


def test_a_branch_that_is_behind_is_refused_before_anything_runs(desk: Desk) -> None:
    desk.home.clone("other").git("commit", "--quiet", "--allow-empty", "--message", "Other")
    git(desk.home.folder / "other", "push", "--quiet")
    desk.stages = [alter]

    result = desk.retrain()

    assert result.code == 1
    assert "found that it lacks 1.\nNothing was published. Run `git pull --rebase origin main`" in result.printed
    assert len(desk.stages) == 1


def test_a_stage_that_was_run_by_hand_does_not_stop_the_next_cycle(desk: Desk) -> None:
    desk.retrain()
    desk.paths.onnx.write_bytes(b"by hand")

    result = desk.retrain()

    assert result.code == 0, result.printed
    assert "nothing new" in result.printed


def test_verify_compares_with_the_remote(desk: Desk) -> None:
    desk.promote(tag=True)
    assert "origin/main has no champion: `make promote TAG=1` says how to push this one" in desk.verify().printed
    desk.retrain()
    assert desk.verify().code == 0
    change_parameters(desk)
    desk.retrain()
    last = [tag.name for tag in git_tags.tags(desk.root, "mnist-dense")][-2:]
    git(desk.home.origin, "tag", "--delete", *last)

    result = desk.verify()

    assert result.code == 1
    assert "origin/main has another champion than version 2" in result.printed


@pytest.mark.skipif(not LONG, reason="runs several cycles: make chaos")
def test_a_refusal_does_not_hide_that_the_remote_has_another_champion(desk: Desk) -> None:
    desk.retrain()
    change_parameters(desk)
    desk.retrain()
    desk.rollback()  # without its tag; the tree still has the model that was withdrawn

    result = desk.retrain()

    assert result.code == 1
    assert "one champion after the refusal, found git tag v1.1.0 names another file than version 1" in result.printed


@pytest.mark.skipif(not LONG, reason="runs several cycles: make chaos")
def test_a_rollback_with_a_tag_is_published(desk: Desk) -> None:
    desk.retrain()
    first = files.sha256(desk.paths.onnx)
    change_parameters(desk)
    assert desk.retrain().code == 0
    assert sha256_pulled(desk) != first

    result = desk.rollback(tag=True)

    assert result.code == 0, result.printed
    assert "mnist-dense@v1.0.0 is champion in git, and at origin" in result.printed
    assert sha256_pulled(desk) == first


def test_a_promotion_with_a_tag_says_how_to_publish_it(desk: Desk) -> None:
    result = desk.promote(tag=True)

    assert result.code == 0, result.printed
    command = result.printed.partition("not at the remote yet: `dvc push && ")[2].partition("`")[0]
    subprocess.run(["bash", "-e", "-c", command], cwd=desk.root, check=True)
    Publisher(desk.paths, "mnist-dense").repository.dvc("push")
    assert sha256_pulled(desk) == files.sha256(desk.paths.onnx)


def test_an_interrupted_cycle_restores_the_seed(desk: Desk) -> None:
    before = (desk.root / "params.yaml").read_text()

    def interrupted(desk: Desk) -> tuple[int, str]:
        assert desk.params.train.seed == 7
        raise KeyboardInterrupt

    desk.stages = [interrupted]
    with pytest.raises(KeyboardInterrupt):
        desk.retrain(seed=7)

    assert (desk.root / "params.yaml").read_text() == before


@pytest.mark.skipif(not LONG, reason="starts processes: make chaos")
def test_a_checkout_with_other_changes_is_refused_even_without_a_store(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    (desk.root / "dvc.yaml").write_text("stages: {}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", closed())

    result = desk.retrain()

    assert result.code == 1
    assert "expected a checkout without changes, found dvc.yaml" in result.printed
    assert (desk.root / "dvc.yaml").read_text() == "stages: {}"


def test_a_second_concurrent_cycle_is_refused(desk: Desk) -> None:
    desk.paths.retrain.mkdir(parents=True)
    with FileLock(desk.paths.retrain_lock):
        result = desk.retrain()

    assert result.code == 1
    assert "found another retraining cycle running" in result.printed


def test_stale_fails_after_max_age_days(desk: Desk) -> None:
    assert "found none: run `make retrain`" in desk.retrain(stale=True).printed
    desk.retrain()
    assert desk.retrain(stale=True).code == 0
    edit_params(desk.root / "params.yaml", {"retrain.max_age_days": 1e-9})

    result = desk.retrain(stale=True)

    assert result.code == 1
    assert "promoted; limit: 1e-09 days" in result.printed


@pytest.mark.parametrize(
    ("environment", "commands", "reason"),
    [
        ({"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}, [], "fatal: detected dubious ownership in repository"),
        ({}, [["checkout", "--quiet", "--detach"]], r"HEAD names a commit and no branch \(detached\)"),
        ({"GIT_DIR": "/nowhere"}, [], "fatal: not a git repository"),
    ],
)
def test_git_says_why_there_is_no_branch(
    environment: dict[str, str], commands: list[list[str]], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with person():
        git(tmp_path, "init", "--quiet")
        git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "Empty")
        for command in commands:
            git(tmp_path, *command)
        for key, value in environment.items():
            monkeypatch.setenv(key, value)

        with pytest.raises(RetrainError, match=rf"retrain: expected a git checkout on a branch, found\s+{reason}"):
            retrain.run(argparse.Namespace(stale=False), parameters.load(ROOT / "params.yaml"), Paths(tmp_path))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_another_seed_changes_one_line_only(end: str, tmp_path: Path) -> None:
    lines = (ROOT / "params.yaml").read_text().splitlines()
    (tmp_path / "params.yaml").write_bytes("".join(f"{line}{end}" for line in lines).encode())

    retraining.set_seed(Paths(tmp_path), 12345)

    changed = (tmp_path / "params.yaml").read_bytes().decode().split(end)
    assert changed.pop() == ""
    assert [new.split("#")[0].strip() for old, new in zip(lines, changed, strict=True) if old != new] == ["seed: 12345"]
    assert parameters.load(tmp_path / "params.yaml").train.seed == 12345
