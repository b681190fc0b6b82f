"""Git tags of champions, in GTO's convention: `model@v1.2.0` for a version and `model#champion#3` for who is champion.

By them DVC finds the model in any git remote, without a server: `dvc artifacts get REPOSITORY model --stage champion`.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from ruamel.yaml import YAML

from pipeline.promotion.errors import GitTagError

_STAGE = "champion"
_FIRST = "v1.0.0"


class TaggedVersion(NamedTuple):
    """A tagged version of the model, and the commit whose dvc.lock holds it."""

    version: str  # such as v1.2.0
    commit: str


def champion(root: Path, name: str) -> TaggedVersion | None:
    """What the newest tag of the champion names; None where there is none, or no git checkout."""
    if not git(root, "tag", "--list", f"{name}#{_STAGE}#*"):
        return None
    (found, *_) = json.loads(_gto(root, "show", f"{name}#{_STAGE}", "--json"))
    return TaggedVersion(found["version"], found["commit_hexsha"])


def tag_champion(root: Path, name: str, file: Path, md5: str, message: str) -> TaggedVersion:
    """Tag the commit checked out as the next version of `name` and as its champion. Tags that are there are not made twice.

    Args:
        file: the model's place in the tree; the commit's dvc.lock must hold it with the MD5 `md5`.

    Raises:
        GitTagError: there is no commit, its dvc.lock holds another file, or git refuses.
    """
    commit = git(root, "rev-parse", "HEAD")
    if commit is None:
        raise GitTagError("a git checkout with a commit", "none", "Promote without --tag, or in a clone.")
    if (held := locked_md5(root, commit, file)) != md5:
        todo = "Commit dvc.lock of the champion's run, then `make promote TAG=1`."
        raise GitTagError(f"dvc.lock of {commit[:9]} to hold {file} with MD5 {md5[:12]}…", f"{(held or 'none')[:12]}", todo)
    known = versions(root, name)
    if commit not in known.values():
        _gto(root, "register", name, commit, "--message", message, *(["--bump-minor"] if known else ["--version", _FIRST]))
        known = versions(root, name)
    made = TaggedVersion(next(version for version, tagged in known.items() if tagged == commit), commit)
    if champion(root, name) != made:
        assign_champion(root, name, made.version, message)
    return made


def assign_champion(root: Path, name: str, version: str, message: str) -> None:
    """Tag `version`, which has a tag already, as the champion."""
    # By force, because it may have been champion before.
    _gto(root, "assign", name, "--version", version, "--stage", _STAGE, "--message", message, "--force")


def _gto(root: Path, *arguments: str) -> str:
    """What GTO prints. In a process of its own, because importing it reconfigures logging."""
    command = [sys.executable, "-m", "gto.cli", *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        found = (done.stderr or done.stdout).strip().partition("\n")[0]
        raise GitTagError(f"`gto {arguments[0]}` to succeed", found, "Mend the git checkout and repeat.")
    return done.stdout


def versions(root: Path, name: str) -> dict[str, str]:
    """The tagged versions of `name`, and the commit of each."""
    tags = (git(root, "tag", "--list", f"{name}@v*") or "").split()
    return {tag.rpartition("@")[2]: git(root, "rev-list", "-n", "1", tag) or "" for tag in tags}


def locked_md5(root: Path, commit: str, file: Path) -> str | None:
    """The MD5 that dvc.lock of `commit` has for the output `file`; None where it has none."""
    lock = YAML(typ="safe").load(git(root, "show", f"{commit}:./dvc.lock") or "{}")
    outs = [out for stage in lock.get("stages", {}).values() for out in stage.get("outs", [])]
    place = file.relative_to(root).as_posix()
    return next((str(out["md5"]) for out in outs if out["path"] == place), None)


def git(root: Path, *arguments: str) -> str | None:
    """What git prints, or None where it fails."""
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)  # noqa: S607 - git, from wherever it is
    return done.stdout.strip() if done.returncode == 0 else None
