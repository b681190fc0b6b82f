"""Everything that an account and a host can have against the pipeline, all at once: the same bytes as without."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.core import environment, files
from pipeline.core.paths import TIME_DEPENDENT
from pipeline.data.datasets import Split
from tests.chaos.conftest import LONG
from tests.clones import Clone, borrow_environment, git, make_clone
from tests.conftest import write_source
from tests.core.test_environment import KERAS_JSON, VARIABLES
from tests.test_make import OPTIONS, REDIRECTING
from tests.test_promote import LOW

pytestmark = pytest.mark.skipif(not LONG, reason="runs the pipeline four times")

FOLDER = "a'b #1 & $HOME `id` (é) 日本; [x]"
CONSOLE = {"COLUMNS": "50", "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "TERM": "dumb", "TZ": "CET-1CEST,M3.5.0,M10.5.0/3"}
SHELLS = {"CDPATH": "/", "GREP_OPTIONS": "--color=always", "MAKEFLAGS": "ej4", "SHELL": "/bin/false"}
# These stop Python itself, or send it elsewhere: only `make` can remove them.
PYTHONS = {"PYTHONHOME": "/elsewhere", "PYTHONPATH": "/elsewhere", "PYTHONSAFEPATH": "1", "PYTHONOPTIMIZE": "2"}
GIT = """
[color]
	ui = always
[core]
	autocrlf = input
	quotepath = false
[diff]
	noprefix = true
	mnemonicPrefix = true
[fetch]
	prune = true
[log]
	decorate = full
[push]
	default = nothing
[status]
	showUntrackedFiles = no
	relativePaths = false
[tag]
	sort = -creatordate
"""
DVC = """
[core]
    autostage = true
    hardlink_lock = true
[cache]
    type = symlink
"""
STEPS = (
    ("repro",),
    ("promote", "FIRST=1"),
    ("retrain", "SEED=1"),
    ("retrain", "SEED=1"),
    ("verify",),
)


def hostile(folder: Path) -> dict[str, str]:
    """An account with a setting for everything that can be set, without those of PYTHONS."""
    (folder / ".keras").mkdir(parents=True)
    files.write_json(folder / ".keras" / "keras.json", KERAS_JSON)
    (folder / ".gitconfig").write_text(GIT)
    (folder / ".config" / "dvc").mkdir(parents=True)
    (folder / ".config" / "dvc" / "config").write_text(DVC)
    (folder / "noise").write_text("echo loading modules\necho loading modules >&2\nexit 3\n")
    noise = str(folder / "noise")
    options = {name: "1" for names in OPTIONS.values() for name in names}
    settings = {**REDIRECTING, **VARIABLES, **options, **CONSOLE, **SHELLS}
    kept = {name: value for name, value in settings.items() if name not in PYTHONS}
    return {**kept, "HOME": str(folder), "BASH_ENV": noise, "ENV": noise, "MLFLOW_TRACKING_URI": "", "TAG": "0"}


def outcome(clone: Clone, variables: Mapping[str, str], pythons: Mapping[str, str]) -> tuple[list[str], dict[str, str], bytes]:
    """Run everything; return what the steps decided, the digests of all outputs, and what `predict` answers."""
    root, printed = clone.paths.root, []
    path = {"PATH": os.defpath, environment.XLA_FLAGS: os.environ[environment.XLA_FLAGS]}
    for step in STEPS:
        done = subprocess.run(
            ["make", *step], cwd=root, env={**path, **variables, **pythons}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        printed += re.findall(r"^(?:promote|refuse|retrain|verify) +(.*?)(?:;|\.|$)", done.stdout, re.MULTILINE)
        if step == ("repro",):
            git(root, "add", "--all")  # with core.autostage, DVC has done so
            git(root, "commit", "--quiet", "--message", "Results")
    predict = [sys.executable, "-m", "pipeline.predict", "--json", "data/raw/test_images.npy"]
    answered = subprocess.run(predict, cwd=root, env={**path, **variables}, capture_output=True, check=False)
    assert answered.returncode == 0, answered.stderr
    return printed, clone.digests(), answered.stdout


def test_everything_hostile_at_once_changes_no_byte(subset: dict[str, Split], tmp_path: Path) -> None:
    found = {}
    for name, variables, pythons in (
        ("plain", {"HOME": str(tmp_path / "own")}, {}),
        (FOLDER, hostile(tmp_path / "home"), PYTHONS),
    ):
        write_source(tmp_path / "source", subset)
        clone = make_clone(tmp_path / name, subset, {**LOW, "fetch.sources": ["../source"]})
        borrow_environment(clone.paths.root)
        found[name] = outcome(clone, variables, pythons)
    beside = {"home", "own", "source", *found, *(f"{name}-source" for name in found)}

    (plain, digests, answers), (loud, others, replies) = found.values()
    assert loud == plain
    assert {name for name in digests | others if digests.get(name) != others.get(name)} <= set(TIME_DEPENDENT)
    assert replies == answers
    assert {entry.name for entry in tmp_path.iterdir()} <= beside
    written = {entry.name for entry in (tmp_path / "home").iterdir()} - {".cache", ".config"}  # by DVC
    assert written == {".gitconfig", ".keras", "noise"}
    shutil.rmtree(tmp_path / "home")
