"""Clones of the working tree, with the parameters for the subset, in which commands run as a person runs them."""

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
from tests.conftest import SMALL, edit_params, write_source
from tests.imports import ROOT, outputs


@dataclass(frozen=True)
class Clone:
    paths: Paths

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a Python module in the clone, as `make` does: with this environment's interpreter first on the path."""
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
        """`dvc repro`, which must succeed; return what it prints."""
        done = self.run("dvc", "repro", *options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def digests(self) -> dict[str, str]:
        """SHA-256 of every file below the outputs that dvc.yaml declares."""
        stages = YAML(typ="safe").load(self.paths.root / "dvc.yaml")["stages"].values()
        found = [self.paths.root / out for stage in stages for out in sorted(outputs(stage))]
        whole = [file for path in found for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
        return {file.relative_to(self.paths.root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in whole}


def ran(printed: str) -> list[str]:
    """The stages that DVC says it ran."""
    return [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")]


def git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


def borrow_environment(clone: Path) -> None:
    """Give the clone the environment that the tests run in, so that make need not set one up."""
    (clone / ".venv").mkdir()
    for entry in Path(sys.prefix).iterdir():
        if entry.name != ".ready":
            (clone / ".venv" / entry.name).symlink_to(entry)
    (clone / ".venv" / ".ready").touch()


def make_clone(root: Path, subset: dict[str, Split], changes: dict[str, Any]) -> Clone:
    """What a clone of the working tree would hold, with the parameters for the subset, and `changes`, committed."""
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
