"""The git checkout and its DVC cache: the commands that publish a model, and what they say when they fail."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.core import processes
from pipeline.core.urls import redacted_text
from pipeline.promotion import dvc_cache
from pipeline.promotion.dvc_cache import LOCK
from pipeline.promotion.errors import RepositoryError

RWLOCK = ".dvc/tmp/rwlock"  # DVC's note of which process uses which file

# For commits and tags on machines where nobody has set a name, as in CI.
_IDENTITY = {
    "GIT_AUTHOR_NAME": "retrain",
    "GIT_AUTHOR_EMAIL": "retrain@localhost",
    "GIT_COMMITTER_NAME": "retrain",
    "GIT_COMMITTER_EMAIL": "retrain@localhost",
}


class Repository:
    """A git checkout at `root` with DVC in it.

    Raises:
        RepositoryError: a command fails; it holds what the command said.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def git(self, *arguments: str) -> str:
        """What git prints, stripped."""
        return self._run("git", *arguments)

    def dvc(self, *arguments: str) -> str:
        """What DVC prints, without progress bars."""
        return self._run(sys.executable, "-m", "dvc", *arguments)

    def shown(self, *command: str) -> int:
        """Run a Python module whose lines a person is to read; return its exit code."""
        return subprocess.run([sys.executable, "-m", *command], cwd=self.root, env=self._environment(), check=False).returncode

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            shown = " ".join(command).replace(f"{sys.executable} -m ", "")
            raise RepositoryError(
                redacted_text(shown)[:100], redacted_text(said[-1]) if said else f"exit code {done.returncode}"
            )
        return done.stdout.strip()

    def _environment(self) -> dict[str, str]:
        named = subprocess.run(["git", "config", "user.email"], cwd=self.root, capture_output=True, check=False)  # noqa: S607 - git, from wherever it is
        identity = {} if named.returncode == 0 else _IDENTITY
        interpreter = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        return {**identity, **os.environ, "PATH": interpreter, "GIT_TERMINAL_PROMPT": "0"}

    def branch(self) -> str:
        """The branch checked out; `HEAD` where none is."""
        return self.git("rev-parse", "--abbrev-ref", "HEAD")

    def exists(self) -> bool:
        """Whether this is a git checkout with a commit."""
        try:
            self.git("rev-parse", "--verify", "--quiet", "HEAD")
        except RepositoryError:
            return False
        return True

    def published_files(self) -> list[str]:
        """The tracked files that `dvc repro` writes: dvc.lock, and the metrics and plots that git keeps and DVC does not."""
        stages = YAML(typ="safe").load(self.root / "dvc.yaml")["stages"].values()
        entries = [entry for stage in stages for kind in ("metrics", "plots") for entry in stage.get(kind, [])]
        return [LOCK, *(path for entry in entries for path, options in entry.items() if options.get("cache") is False)]

    def changed(self, files: Sequence[str] = ()) -> list[str]:
        """Tracked files that are not as in the last commit; of `files`, where given, those that git does not know as well."""
        listed = self.git("diff", "--name-only", "HEAD", "--", *files).splitlines()
        return listed + (self.git("ls-files", "--others", "--", *files).splitlines() if files else [])

    def restore(self, files: Sequence[str]) -> None:
        """Put `files`, and the outputs that dvc.lock names, back as the last commit has them.

        DVC is not asked for outputs that are so: it removes what it cannot compare, when its cache has lost it.
        """
        known = self.git("ls-tree", "--name-only", "HEAD", "--", *files).splitlines()
        self.git("checkout", "--quiet", "HEAD", "--", *known)
        for file in set(files) - set(known):
            (self.root / file).unlink(missing_ok=True)
        if outputs := dvc_cache.differing(self.root):
            self.dvc("checkout", "--quiet", "--force", "--allow-missing", *(str(path) for path in outputs))

    def mend(self) -> list[str]:
        """Mend what DVC writes in place and was killed in writing, and refuses from then on; return what was mended.

        A part of dvc.lock goes to .dvc/tmp, and git's takes its place. Where git has none either, none is left; DVC keeps
        apart from it what each stage made of which inputs, and does not run those again. One in a merge conflict stays.
        """
        return [file for file, mended in ((RWLOCK, self._drop_rwlock()), (LOCK, self._restore_lock())) if mended]

    def _drop_rwlock(self) -> bool:
        """Remove the note of which process uses which file where it was cut off, and return whether it was."""
        from dvc.exceptions import DvcException
        from dvc.lock import make_lock

        path = self.root / RWLOCK
        with suppress(FileNotFoundError, DvcException):  # none, or DVC is at work on it
            if _is_cut_off(path):
                with make_lock(f"{path}.lock", tmp_dir=str(path.parent)):  # which DVC holds while it writes
                    if _is_cut_off(path):
                        path.unlink()
                        return True
        return False

    def _restore_lock(self) -> bool:
        """Put dvc.lock back as git has it where it was cut off, and return whether it was."""
        from dvc.exceptions import DvcException
        from dvc.schema import COMPILED_LOCKFILE_SCHEMA
        from dvc.utils import strictyaml

        lock = self.root / LOCK
        try:
            _, text = strictyaml.load(str(lock), COMPILED_LOCKFILE_SCHEMA)
            cut_off = not text.endswith("\n")  # most parts are whole to DVC, which takes what is missing for new
        except FileNotFoundError:
            return False
        except DvcException:
            cut_off = True
        if not cut_off or self.busy() or self._is_unmerged(LOCK):  # busy: DVC is writing it now
            return False
        (self.root / ".dvc" / "tmp").mkdir(exist_ok=True)
        lock.replace(self.root / ".dvc" / "tmp" / LOCK)
        with suppress(RepositoryError):
            self.git("checkout", "--", LOCK)
        return True

    def _is_unmerged(self, file: str) -> bool:
        try:
            return bool(self.git("ls-files", "--unmerged", "--", file))
        except RepositoryError:  # no git checkout
            return False

    def busy(self) -> str | None:
        """The DVC command that is at work in this checkout; None where none is. What one that was killed left is none."""
        try:
            locks = json.loads((self.root / RWLOCK).read_text(encoding="utf-8") or "{}")
        except (FileNotFoundError, json.JSONDecodeError):  # it is being written
            return None
        holders = [*locks.get("write", {}).values(), *chain.from_iterable(locks.get("read", {}).values())]
        at_work = next((holder for holder in holders if processes.is_alive(holder["pid"])), None)
        return f"`dvc {at_work['cmd'].partition('.py ')[2]}`, process {at_work['pid']}" if at_work else None

    def has_dvc_remote(self) -> bool:
        return bool(self.dvc("remote", "list"))

    def remote(self) -> str | None:
        """The git remote that the branch is pushed to: `origin`, or the only one; None where there is none."""
        remotes = self.git("remote").split()
        return "origin" if "origin" in remotes else next(iter(remotes), None)

    def ahead(self) -> bool:
        """Whether the branch holds commits that its remote does not, as far as this checkout knows."""
        if self.remote() is None:
            return False
        try:
            return self.git("rev-list", "--count", "@{upstream}..HEAD") != "0"
        except RepositoryError:  # the branch was never pushed
            return True

    def push(self) -> None:
        """Push the outputs, then the branch together with its tags: who sees a commit finds its files."""
        if self.has_dvc_remote():
            self.dvc("push", "--quiet", "--run-cache")
        if remote := self.remote():
            self.git("push", "--quiet", "--atomic", "--follow-tags", "--set-upstream", remote, self.branch())


def _is_cut_off(rwlock: Path) -> bool:
    try:
        json.loads(rwlock.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        return True
    return False
