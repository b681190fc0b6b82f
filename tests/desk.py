"""A checkout in which retraining cycles run in this process, with models that the test makes instead of training them.

Everything that decides and publishes is real: git and its remote, DVC and its remote, and the MLflow store.
"""

import argparse
import io
import shutil
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline import promote, retrain, rollback
from pipeline.core import params as parameters
from pipeline.core.errors import PipelineError
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.promotion.repository import Repository
from tests.published import ONNX, Home, create_project, git, lock_outputs

OUTS = (ONNX, "data/model/model.int8.onnx", "data/model/run.json", "data/registration.json")
Stages = Callable[["Desk"], tuple[int, str]]


@dataclass
class Result:
    """The exit code of a command, and what it printed."""

    code: int
    printed: str


@dataclass
class Desk:
    """A clone in which a person works."""

    home: Home
    root: Path
    stages: list[Stages] = field(default_factory=list)  # what `dvc repro` does next, once each

    @property
    def paths(self) -> Paths:
        return Paths(self.root)

    @property
    def params(self) -> Params:
        return parameters.load(self.root / "params.yaml")

    def git(self, *arguments: str) -> str:
        return git(self.root, *arguments)

    def retrain(self, **options: Any) -> Result:
        given = {"seed": None, "require": None, "first": False, "stale": False} | options
        return self.run(retrain.run, **given)

    def promote(self, **options: Any) -> Result:
        given = {"first": False, "check": False, "tag": False, "verify": False, "history": False, "require": None} | options
        return self.run(promote.run, **given)

    def verify(self) -> Result:
        return self.promote(verify=True)

    def rollback(self, tag: bool = False) -> Result:
        return self.run(rollback.run, tag=tag)

    def run(self, command: Callable[..., int], **options: Any) -> Result:
        """Run a verb in this process, as the console does."""
        printed = io.StringIO()
        with chdir(self.root), redirect_stdout(printed), redirect_stderr(printed):
            try:
                code = command(argparse.Namespace(**options), self.params, Paths())
            except PipelineError as error:
                code = 1
                print(f"error: {error}")
        return Result(code, printed.getvalue())

    def lock(self) -> None:
        lock_outputs(self.root, OUTS)

    def run_module(self, *command: str) -> tuple[int, str]:
        """Stands for `Repository.run_module`: runs the stages that the test wants, and promote in this process."""
        if command[0] == "dvc":
            wanted = "--single-item" not in command and self.stages
            return self.stages.pop(0)(self) if wanted else (0, "")
        assert command[:2] == ("pipeline.promote", "--check"), command
        require = command[command.index("--require") + 1] if "--require" in command else None
        done = self.promote(check=True, first="--first" in command, require=require)
        print(done.printed, end="")
        return done.code, done.printed.strip().rpartition("error: ")[2]


def patch(desks: dict[Path, Desk], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the repositories of the desks run stages and promote in this process."""
    monkeypatch.setattr(Repository, "run_module", lambda own, *command: desks[own.root].run_module(*command))


def create(home: Home, name: str, tree: Path, params: Path) -> Desk:
    """Clone the remote, and give the clone the outputs of `tree`."""
    checkout = home.clone(name)
    shutil.copytree(tree / "data", checkout.root / "data", dirs_exist_ok=True)
    if not (checkout.root / "dvc.yaml").exists():
        shutil.copy(params, checkout.root / "params.yaml")
        create_project(checkout, home.folder / "store", OUTS)
        lock_outputs(checkout.root, OUTS)
        checkout.git("add", "--all")
        checkout.git("commit", "--quiet", "--message", "Results")
        checkout.git("push", "--quiet", "--set-upstream", "origin", "HEAD:main")
    return Desk(home, checkout.root)
