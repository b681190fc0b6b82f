"""Git tags of champions, in GTO's convention: `model@v1.2.0` for a version, `model#champion#3` for each new champion.

With them DVC finds the model in any git remote, without a server: `dvc artifacts get REPOSITORY model --stage champion`.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from ruamel.yaml import YAML

from pipeline.promotion.errors import GitTagError

_STAGE = "champion"
_FIRST = "v1.0.0"


class TaggedVersion(NamedTuple):
    """A tagged version of the model, and the commit whose dvc.lock names its file."""

    version: str  # such as v1.2.0
    commit: str


def champion(root: Path, name: str) -> TaggedVersion | None:
    """The version that the newest champion tag names; None if there is no such tag, or `root` is no git checkout."""
    if not git(root, "tag", "--list", f"{name}#{_STAGE}#*"):
        return None
    (shown, *_) = json.loads(_gto(root, "show", f"{name}#{_STAGE}", "--json"))
    return TaggedVersion(shown["version"], shown["commit_hexsha"])


def tag_commit(root: Path, name: str, file: Path, md5: str, message: str) -> TaggedVersion:
    """Tag the current commit as the next version of `name` and as its champion. Existing tags are kept.

    Args:
        file: the path of the model. The commit's dvc.lock must name it with the MD5 `md5`.

    Raises:
        GitTagError: there is no commit, its dvc.lock names another file, or git refuses.
    """
    commit = git(root, "rev-parse", "HEAD")
    if commit is None:
        raise GitTagError("a git checkout with a commit", "none", "Promote without --tag, or in a clone.")
    if (locked := locked_md5(root, commit, file)) != md5:
        todo = "Commit dvc.lock of the champion's run, then run `make promote TAG=1`."
        raise GitTagError(f"dvc.lock of {commit[:9]} to name {file} with MD5 {md5[:12]}…", f"{(locked or 'none')[:12]}", todo)
    tagged = versions(root, name)
    if commit not in tagged.values():
        number = ["--bump-minor"] if tagged else ["--version", _FIRST]
        _gto(root, "register", name, commit, "--message", message, *number)
        tagged = versions(root, name)
    new = TaggedVersion(next(version for version, hexsha in tagged.items() if hexsha == commit), commit)
    if champion(root, name) != new:
        assign_champion(root, name, new.version, message)
    return new


def assign_champion(root: Path, name: str, version: str, message: str) -> None:
    """Tag `version`, which has a version tag already, as the champion."""
    # --force, because the version may have been champion before.
    _gto(root, "assign", name, "--version", version, "--stage", _STAGE, "--message", message, "--force")


def _gto(root: Path, *arguments: str) -> str:
    """Run GTO and return its output. It runs in a process of its own, because importing it reconfigures logging."""
    command = [sys.executable, "-m", "gto.cli", *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        found = (done.stderr or done.stdout).strip().partition("\n")[0]
        raise GitTagError(f"`gto {arguments[0]}` to succeed", found, "Fix the git checkout and rerun.")
    return done.stdout


def versions(root: Path, name: str) -> dict[str, str]:
    """The tagged versions of `name`, each with its commit."""
    tags = (git(root, "tag", "--list", f"{name}@v*") or "").split()
    return {tag.rpartition("@")[2]: git(root, "rev-list", "-n", "1", tag) or "" for tag in tags}


def locked_md5(root: Path, commit: str, file: Path) -> str | None:
    """The MD5 that dvc.lock of `commit` has for the output `file`, or None."""
    lock = YAML(typ="safe").load(git(root, "show", f"{commit}:./dvc.lock") or "{}")
    outs = [out for stage in lock.get("stages", {}).values() for out in stage.get("outs", [])]
    path = file.relative_to(root).as_posix()
    return next((str(out["md5"]) for out in outs if out["path"] == path), None)


def git(root: Path, *arguments: str) -> str | None:
    """Run git and return its output, stripped; None if it fails.

    Raises:
        GitTagError: the checkout has another owner, so that git refuses to read it, tags included.
    """
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)  # noqa: S607 - git, from PATH
    if "safe.directory" in done.stderr:
        todo = f"Run as its owner, or run `git config --global --add safe.directory {shlex.quote(str(root.absolute()))}`."
        raise GitTagError(f"a checkout of this user in {root.absolute()}", "one of another owner", todo)
    return done.stdout.strip() if done.returncode == 0 else None
