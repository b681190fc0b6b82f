"""Clones of the working tree with parameters for the subset, in which tests run commands like a user."""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.core.paths import Paths
from pipeline.data.datasets import Split
from tests.conftest import SMALL, Repository, edit_params, write_source
from tests.imports import ROOT, outputs


@dataclass(frozen=True)
class Clone:
    paths: Paths

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a Python module in the clone, with this environment first on the path, like `make`."""
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "120"}
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.paths.root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def repro(self, *options: str) -> str:
        """Run `dvc repro`, which must succeed; return its output."""
        done = self.run("dvc", "repro", *options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def digests(self) -> dict[str, str]:
        """SHA-256 of every file in the outputs that dvc.yaml declares."""
        stages = YAML(typ="safe").load(self.paths.root / "dvc.yaml")["stages"].values()
        paths = [self.paths.root / out for stage in stages for out in sorted(outputs(stage))]
        files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
        return {file.relative_to(self.paths.root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def ran(printed: str) -> list[str]:
    """Return the stages that DVC ran, according to its output."""
    return [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")]


def git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


def borrow_environment(clone: Path) -> None:
    """Link the environment of the tests into the clone, so that `make` does not create one."""
    (clone / ".venv").mkdir()
    for entry in Path(sys.prefix).iterdir():
        if entry.name != ".ready":
            (clone / ".venv" / entry.name).symlink_to(entry)
    stamp_environment(clone)


def stamp_environment(clone: Path) -> None:
    """Mark the environment as that of this folder, as `make` does, so that a moved or copied clone keeps it."""
    (clone / ".venv" / ".ready").write_text(f"{clone.resolve()}\n")


def make_clone(root: Path, subset: dict[str, Split], changes: dict[str, Any]) -> Clone:
    """Commit the working tree in a new repository at `root`, with parameters for the subset and `changes` to them."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    for name in (name for name in listed if (ROOT / name).is_file() and not name.startswith("data/embedded/t")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    source = write_source(root.with_name(f"{root.name}-source"), subset)
    edit_params(root / "params.yaml", SMALL | {"fetch.sources": [str(source)]} | changes)
    (root / "dvc.lock").unlink()
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "Clone")
    return Clone(Paths(root))


def clone_with_outputs(
    built: Repository, root: Path, subset: dict[str, Split], changes: dict[str, Any], *stages: str
) -> Clone:
    """Return a clone with the outputs of `stages` from `built`, which DVC then skips.

    By default, these are all stages, and the clone also has the MLflow store. dvc.lock has changes that are not committed.
    """
    clone = make_clone(root, subset, changes)
    for folder in ("data",) if stages else ("data", "mlruns"):
        shutil.copytree(built.paths.root / folder, root / folder, dirs_exist_ok=True)
    done = clone.run("dvc", "commit", "--force", "--quiet", *stages)
    assert done.returncode == 0, done.stderr
    return clone
