"""Random sequences of what people do to the champion: afterwards all name one model, or the command said why not.

Real: git with a bare repository, DVC with a remote, an MLflow store, and all that decides and publishes. Made by the test: the
models, which are a few bytes, and how well they do.
"""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import mlflow
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from pipeline import register
from pipeline.core import files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.promotion import assessment, champions
from pipeline.promotion.repository import Repository as Git
from pipeline.promotion.rules import Candidate
from pipeline.tracking import lineage, registration, registry, runs
from pipeline.tracking.connection import connected
from pipeline.tracking.registry import Version
from tests import desk as desks
from tests import published
from tests.chaos.conftest import Chaos
from tests.conftest import Repository, edit_params
from tests.desk import OUTS, Desk, Result
from tests.published import NAME, git, person
from tests.test_promote import LOW

NUMBERS = count()
NOT_TRACKED = ("evaluation", "raw", "validation")  # folders of data/ that no stage makes here
WHO, QUALITY = st.sampled_from(["ada", "bob"]), st.integers(0, 4)


def make_model(desk: Desk, quality: int) -> tuple[int, str]:
    """The stages: write another model, register it, and record the outputs. Its first byte says how well it does."""
    content = bytes([quality]) + str(next(NUMBERS)).encode()
    desk.paths.onnx.write_bytes(content)
    desk.paths.int8.write_bytes(content + b" int8")
    with connected(desk.params, desk.paths) as experiment:
        run = mlflow.MlflowClient().create_run(experiment)
    files.write_json(desk.paths.run, {"run_id": run.info.run_id, "started": "now"})
    return register_model(desk)


def register_model(desk: Desk) -> tuple[int, str]:
    register.run(desk.params, desk.paths)
    desk.lock()
    return 0, ""


@contextmanager
def completed_run(params: Params, paths: Paths) -> Iterator[str]:
    """Stands for `runs.completed_run`, without the dozens of plots and tables."""
    with connected(params, paths) as experiment:
        recorded = files.read_json(paths.run)["run_id"]
        found = runs._find(recorded, experiment)
        tags = {} if found else {runs._REBUILT: recorded}
        with mlflow.start_run(run_id=found, tags=tags) as run:
            yield run.info.run_id


def add_version(params: Params, paths: Paths) -> Version:
    """Stands for `registration._add_version`, without signature, example and environment."""
    run, client, tags = mlflow.active_run(), mlflow.MlflowClient(), registration._tags(params, paths)
    folder = f"model-{next(NUMBERS)}"
    for file in (paths.onnx, paths.int8):
        client.log_artifact(run.info.run_id, str(file), folder)
    for name in ("MLmodel", "contract.json"):
        client.log_text(run.info.run_id, "{}", f"{folder}/{name}")
    with suppress(mlflow.exceptions.MlflowException):
        client.create_registered_model(params.tracking.model)
    added = client.create_model_version(params.tracking.model, f"{run.info.artifact_uri}/{folder}", run.info.run_id, tags=tags)
    return Version(added.name, int(added.version), added.run_id, tags)


def score(version: Version, test: Any, params: Params, recent: Any = None) -> Candidate:
    """Stands for `assessment.score`: a model of a higher quality is significantly better."""
    with TemporaryDirectory() as folder:
        quality = registry.download(version, Path(folder))[0].read_bytes()[0]
    correct = np.arange(1000) < 900 + 20 * quality
    bounds = {**params.promote.minimum.model_dump(), **params.promote.maximum.model_dump()}
    metrics = {**bounds, "accuracy": float(correct.mean())}
    return Candidate(version.number, version.hashes.onnx, version.tags.get(registry.LINEAGE, ""), correct, metrics)


class World(NamedTuple):
    """The folder in which every sequence starts with the same content, at the same path."""

    start: Path
    work: Path

    def reset(self) -> None:
        database = self.work / "mlruns" / "mlflow.db"
        for entry in self.work.iterdir():
            if entry.name != "mlruns":
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        shutil.rmtree(self.work / "mlruns" / "artifacts")
        skipped = shutil.ignore_patterns("mlflow.db*")
        shutil.copytree(self.start, self.work, symlinks=True, ignore=skipped, dirs_exist_ok=True)
        with sqlite3.connect(self.start / "mlruns" / "mlflow.db") as old, sqlite3.connect(database) as new:
            old.backup(new)  # the file stays the same one, which MLflow has open

    @property
    def home(self) -> published.Home:
        return published.Home(self.work)


@pytest.fixture
def world(built: Repository, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Two clones, ada's and bob's, one store, and a published champion."""
    monkeypatch.delenv("CI", raising=False)
    world = World(tmp_path / "start", tmp_path / "work")
    (world.work / "mlruns" / "artifacts").mkdir(parents=True)
    shutil.copy(empty_store, world.work / "mlruns" / "mlflow.db")
    monkeypatch.setenv("DVC_ROOT", str(world.work))  # the clones share the store of this folder
    for target, name, stub in (
        (registration, "_add_version", add_version),
        (runs, "completed_run", completed_run),
        (assessment, "score", score),
        (lineage, "digest", lambda *_: "lineage"),
    ):
        monkeypatch.setattr(target, name, stub)
    tree = tmp_path / "tree"
    described = (built.paths.report, built.paths.metrics, built.paths.model_card)
    for file in (built.paths.manifest, *built.paths.raw.glob("*.npy"), *described):
        (tree / file.relative_to(built.paths.root)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, tree / file.relative_to(built.paths.root))
    (tree / "data" / "model").mkdir()
    shutil.copy(built.paths.root / "params.yaml", tmp_path / "params.yaml")
    edit_params(tmp_path / "params.yaml", LOW)
    with person():
        git(world.work, "init", "--quiet", "--bare", "--initial-branch", "main", "origin.git")
        ada = create(world, "ada", tree, tmp_path / "params.yaml")
        desks.patch({ada.root: ada}, monkeypatch)
        ada.stages = [lambda desk: make_model(desk, 1)]
        first = ada.retrain(first=True)
        assert first.code == 0, first.printed
        create(world, "bob", tree, tmp_path / "params.yaml")
        shutil.copytree(world.work, world.start)
        yield world


def create(world: World, name: str, tree: Path, params: Path) -> Desk:
    """A clone with the outputs of the commit."""
    checkout = world.home.clone(name)
    shutil.copytree(tree / "data", checkout.root / "data", dirs_exist_ok=True)
    desk = Desk(world.home, checkout.root)
    if (checkout.root / "dvc.yaml").exists():
        Git(desk.root).dvc("pull")
    else:
        shutil.copy(params, checkout.root / "params.yaml")
        published.create_project(checkout, world.work / "store", OUTS)
        make_model(desk, 0)
        checkout.git("add", "--all")
        checkout.git("commit", "--quiet", "--message", "Start")
        checkout.git("push", "--quiet", "--set-upstream", "origin", "HEAD:main")
    return desk


class People(RuleBasedStateMachine):
    """What Ada and Bob do in their clones. Each rule is one action of one of them."""

    world: World
    monkeypatch: pytest.MonkeyPatch

    def __init__(self) -> None:
        super().__init__()
        self.world.reset()
        self.desks = {name: Desk(self.world.home, self.world.work / name) for name in ("ada", "bob")}
        desks.patch({desk.root: desk for desk in self.desks.values()}, self.monkeypatch)
        self.client = mlflow.MlflowClient()
        self.pulled: dict[str, str] = {}  # what `dvc artifacts get` gave, by the refs of the remote

    # Commands: exit code 0 means that all name one model.

    @rule(who=WHO, quality=st.none() | QUALITY)
    def retrain(self, who: str, quality: int | None) -> None:
        """A cycle, with new data that give a model of this quality, or with nothing new."""
        desk = self.desks[who]
        desk.stages = [] if quality is None else [lambda desk: make_model(desk, quality)]
        self.check(desk, desk.retrain())

    @rule(who=WHO, mine=QUALITY, other=QUALITY)
    def two_cycles_at_once(self, who: str, mine: int, other: int) -> None:
        """While one trains, the other runs a whole cycle."""
        desk, rival = self.desks[who], self.desks["bob" if who == "ada" else "ada"]
        rival.stages = [lambda desk: make_model(desk, other)]

        def overtaken(desk: Desk) -> tuple[int, str]:
            rival.retrain()
            return make_model(desk, mine)

        desk.stages = [overtaken]
        self.check(desk, desk.retrain())

    @rule(who=WHO, tag=st.booleans())
    def promote(self, who: str, tag: bool) -> None:
        self.desks[who].promote(tag=tag)
        self.verify(who)

    @rule(who=WHO, tag=st.booleans())
    def rollback(self, who: str, tag: bool) -> None:
        desk = self.desks[who]
        result = desk.rollback(tag=tag)
        if tag:
            self.check(desk, result)
        self.verify(who)

    @rule(who=WHO)
    def verify(self, who: str) -> None:
        self.check(self.desks[who], self.desks[who].verify())

    # What people do between commands.

    @rule(who=WHO, quality=QUALITY, kept=st.booleans())
    def experiment(self, who: str, quality: int, kept: bool) -> None:
        """`dvc exp run`. Then the tree is restored as by `git checkout` and `make repro`, unless its result is kept."""
        desk = self.desks[who]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DVC_EXP_NAME", "trial")
            make_model(desk, quality)
        if not kept:
            Git(desk.root).restore(["dvc.lock"])

    @rule(who=WHO, quality=QUALITY)
    def visit_a_branch(self, who: str, quality: int) -> None:
        """Another branch is trained and committed, and left again."""
        desk = self.desks[who]
        Git(desk.root).restore(["dvc.lock"])
        branch = desk.git("rev-parse", "--abbrev-ref", "HEAD")
        desk.git("switch", "--quiet", "--create", f"trial-{next(NUMBERS)}")
        make_model(desk, quality)
        desk.git("commit", "--quiet", "--all", "--message", "Trial")
        desk.git("switch", "--quiet", branch)
        Git(desk.root).restore(["dvc.lock"])

    @rule(loss=st.sampled_from(["alias", "version", "files", "run", "purged run", "moved alias"]))
    def lose(self, loss: str) -> None:
        """Somebody deletes a part of the champion in MLflow's UI, with `mlflow gc` or on the disk."""
        with suppress(mlflow.exceptions.MlflowException):
            champion = self.client.get_model_version_by_alias(NAME, "champion")
            if loss == "alias":
                self.client.delete_registered_model_alias(NAME, "champion")
            elif loss == "version":
                self.client.delete_model_version(NAME, champion.version)
            elif loss == "moved alias":
                others = [each.version for each in self.client.search_model_versions(f"name = '{NAME}'")]
                self.client.set_registered_model_alias(NAME, "champion", str(min(int(number) for number in others)))
            elif loss == "files":
                shutil.rmtree(champion.source.removeprefix("file://"), ignore_errors=True)  # they may be gone already
            else:
                self.client.delete_run(champion.run_id)
                if loss == "purged run":  # `mlflow gc` removes the artifacts, too
                    shutil.rmtree(Path(champion.source.removeprefix("file://")).parent, ignore_errors=True)

    @rule()
    def others_push(self) -> None:
        clone = self.world.home.clone(f"other-{next(NUMBERS)}")
        clone.git("commit", "--quiet", "--allow-empty", "--message", "Other")
        clone.git("push", "--quiet")

    @rule(who=WHO)
    def pull(self, who: str) -> None:
        """`git pull --rebase`. If dvc.lock conflicts, take the remote's."""
        desk = self.desks[who]
        Git(desk.root).restore(["dvc.lock"])
        try:
            desk.git("pull", "--quiet", "--rebase")
        except AssertionError:
            desk.git("rebase", "--abort")
            desk.git("reset", "--quiet", "--hard", "origin/main")
        Git(desk.root).dvc("pull", "--force", "--allow-missing")

    @rule(who=WHO)
    def clone_without_tags(self, who: str) -> None:
        desk = self.desks[who]
        for name in NOT_TRACKED:
            shutil.move(desk.root / "data" / name, self.world.work / name)
        shutil.rmtree(desk.root)
        self.world.home.clone(who, "--depth", "1", "--no-tags")
        (desk.root / "data").mkdir(exist_ok=True)
        for name in NOT_TRACKED:
            shutil.move(self.world.work / name, desk.root / "data" / name)
        Git(desk.root).dvc("pull")

    # What must hold.

    def check(self, desk: Desk, result: Result) -> None:
        """After exit code 0 store, record and remote have one champion. Any other exit code comes with a reason."""
        if result.code != 0:
            assert "expected" in result.printed or "verify  " in result.printed, result.printed
            return
        with connected(desk.params, desk.paths):
            champion = self.client.get_model_version_by_alias(NAME, "champion")
            folder = Path(mlflow.artifacts.download_artifacts(f"models:/{NAME}@champion"))
            assert champions.moves(NAME)[-1].champion == int(champion.version), result.printed
        assert self.remote() == (folder / "model.onnx").read_bytes().decode(errors="replace"), result.printed

    def remote(self) -> str:
        refs = str(self.world.home.refs())
        if refs not in self.pulled:
            self.pulled[refs] = self.world.home.pulled()
        return self.pulled[refs]


def test_people_never_leave_two_champions_without_a_word(world: World, monkeypatch: pytest.MonkeyPatch, chaos: Chaos) -> None:
    tries = chaos.tries(5, 500)
    People.world, People.monkeypatch = world, monkeypatch
    steps = chaos.tries(2, 9)
    options: dict[str, Any] = {
        "max_examples": tries,
        "stateful_step_count": steps,
        "deadline": None,
        "database": None,
        "derandomize": True,
        "suppress_health_check": list(HealthCheck),
    }

    run_state_machine_as_test(People, settings=settings(**options))

    chaos.count("Champion", f"{steps} random actions of two people on clones, store and remote", tries, tries)
