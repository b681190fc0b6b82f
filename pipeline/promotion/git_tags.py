"""Git tags of champions, in GTO's convention: `model@v1.2.0` for a version, `model#champion#3` for each new champion.

With them DVC finds the model in any git remote, without a server: `dvc artifacts get REPOSITORY model --stage champion`.
If the project is in a folder of a larger repository, the artifact is `path/to:model`, and its tags begin with `path/to=model`.
"""

import re
import shlex
import subprocess
import time
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from ruamel.yaml import YAML

from pipeline.promotion.dvc_cache import LOCK
from pipeline.promotion.errors import GitTagError
from pipeline.promotion.repository import Repository

_STAGE = "champion"
_FORMAT = "%(refname:strip=2)%00%(objecttype)%00%(objectname)%00%(*objectname)%00%(creatordate:unix)%00%(contents:subject)"


class Tag(NamedTuple):
    """A tag of the model. Lightweight tags do not count: GTO and DVC ignore them."""

    name: str
    object: str  # of the tag itself
    commit: str
    date: int  # seconds since 1970
    message: str


class TaggedVersion(NamedTuple):
    """A tagged version of the model, and the commit whose dvc.lock names its file."""

    version: str  # such as v1.2.0; empty if the commit has no version tag
    commit: str


def artifact(root: Path, name: str) -> str:
    """The name by which DVC finds the model in the repository: `model`, or `path/to:model` in a folder of it."""
    folder = (git(root, "rev-parse", "--show-prefix") or "").rstrip("/")
    return f"{folder}:{name}" if folder else name


def patterns(root: Path, name: str) -> tuple[str, str]:
    """The refs of the model's tags, as git's patterns: of its versions, and of its champions."""
    prefix = f"refs/tags/{artifact(root, name).replace(':', '=')}"
    return f"{prefix}@v*", f"{prefix}#{_STAGE}#*"


def tags(root: Path, name: str) -> list[Tag]:
    """The model's tags, in the order in which DVC ranks them: the last champion is the champion."""
    lines = (git(root, "for-each-ref", f"--format={_FORMAT}", *patterns(root, name)) or "").splitlines()
    fields = [line.split("\0") for line in lines]
    found = [Tag(name, own, commit, int(date), text) for name, kind, own, commit, date, text in fields if kind == "tag"]
    return sorted(found, key=lambda tag: (tag.date, tag.name))


def champion(root: Path, name: str, among: Collection[str] | None = None) -> TaggedVersion | None:
    """The version that the newest champion tag names; None if there is no such tag, or `root` is no git checkout.

    Args:
        among: the names of the tags that count, such as those at the remote.
    """
    known = [tag for tag in tags(root, name) if among is None or tag.name in among]
    champions = [tag for tag in known if f"#{_STAGE}#" in tag.name]
    if not champions:
        return None
    commit = champions[-1].commit
    return TaggedVersion(next((_version(tag) for tag in known if "@" in tag.name and tag.commit == commit), ""), commit)


def versions(root: Path, name: str) -> dict[str, str]:
    """The tagged versions of `name`, each with its commit, oldest first."""
    return {_version(tag): tag.commit for tag in tags(root, name) if "@" in tag.name}


def tag_champion(root: Path, name: str, file: Path, md5: str, message: str) -> TaggedVersion:
    """Tag the model with the MD5 `md5` as champion, unless it is; return its version. Existing tags are kept.

    A version that names this file already becomes champion again. Otherwise the current commit becomes the next version.

    Raises:
        GitTagError: there is no commit, or neither it nor a tagged commit names this file in dvc.lock.
        RepositoryError: git refuses.
    """
    current = champion(root, name)
    if current and current.version and locked_md5(root, current.commit, file) == md5:
        return current
    new = _known(root, name, file, md5) or _register(root, name, file, md5, message)
    numbers = [int(tag.name.rpartition("#")[2]) for tag in tags(root, name) if re.search(r"#\d+$", tag.name)]
    _create(root, name, f"#{_STAGE}#{max(numbers, default=0) + 1}", new.commit, message)
    return new


def _known(root: Path, name: str, file: Path, md5: str) -> TaggedVersion | None:
    """The newest version whose commit names this file."""
    known = versions(root, name)
    listed = git(root, "grep", "--name-only", "--fixed-strings", md5, *known.values(), "--", LOCK) if known else None
    holders = {line.partition(":")[0] for line in (listed or "").splitlines()}
    candidates = [TaggedVersion(version, commit) for version, commit in known.items() if commit in holders]
    return next((found for found in reversed(candidates) if locked_md5(root, found.commit, file) == md5), None)


def _register(root: Path, name: str, file: Path, md5: str, message: str) -> TaggedVersion:
    """Tag the current commit as the next version."""
    commit = git(root, "rev-parse", "--verify", "HEAD")
    if commit is None:
        raise GitTagError("a git checkout with a commit", "none", "Promote without --tag, or in a clone.")
    if (locked := locked_md5(root, commit, file)) != md5:
        todo = "Commit dvc.lock of the champion's run, then run `make promote TAG=1`."
        raise GitTagError(f"dvc.lock of {commit[:9]} to name {file} with MD5 {md5[:12]}…", f"{(locked or 'none')[:12]}", todo)
    numbers = [[int(part) for part in version[1:].split(".")] for version in versions(root, name) if _is_release(version)]
    major, minor, _ = max(numbers, default=[1, -1, 0])
    new = f"v{major}.{minor + 1}.0"
    _create(root, name, f"@{new}", commit, message)
    return TaggedVersion(new, commit)


def _create(root: Path, name: str, suffix: str, commit: str, message: str) -> None:
    """Create a tag that is newer than all others of the model, although their clocks may have been ahead of this one."""
    known = tags(root, name)
    date = max(int(time.time()), known[-1].date + 1 if known else 0)
    full = f"{artifact(root, name).replace(':', '=')}{suffix}"
    _write(root, full, commit, message, date)


def _write(root: Path, full: str, commit: str, message: str, date: int) -> None:
    dated = {"GIT_COMMITTER_DATE": f"{date} +0000"}
    Repository(root).git("tag", "--annotate", "--force", "--message", message, full, commit, environment=dated)


def move_rebased(root: Path, name: str, file: Path, published: Collection[str]) -> list[str]:
    """Move tags whose commit is on no branch any more, as after `git pull --rebase`, to the commit that took its place.

    That is the commit of the current branch that introduced the same model in dvc.lock. Without one a tag stays. Tags that the
    remote has (`published`) stay, too. Returns the names of the moved tags.
    """
    moved = []
    for tag in tags(root, name):
        if tag.name in published or git(root, "for-each-ref", "--contains", tag.commit, "refs/heads", "refs/remotes"):
            continue
        if (md5 := locked_md5(root, tag.commit, file)) and (commit := _introduced(root, file, md5)):
            _write(root, tag.name, commit, tag.message, tag.date)
            moved.append(tag.name)
    return moved


def _introduced(root: Path, file: Path, md5: str) -> str | None:
    """The oldest commit of the current branch whose dvc.lock names the model with this MD5."""
    commits = (git(root, "log", "--reverse", "--format=%H", f"-S{md5}", "--", LOCK) or "").split()
    return next((commit for commit in commits if locked_md5(root, commit, file) == md5), None)


def locked_md5(root: Path, commit: str, file: Path) -> str | None:
    """The MD5 that dvc.lock of `commit` has for the output `file`, or None."""
    lock = YAML(typ="safe").load(git(root, "show", f"{commit}:./{LOCK}") or "{}")
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


def _version(tag: Tag) -> str:
    return tag.name.rpartition("@")[2]


def _is_release(version: str) -> bool:
    return re.fullmatch(r"v\d+\.\d+\.\d+", version) is not None
