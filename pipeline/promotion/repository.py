"""The git checkout and its DVC cache: run git and DVC, with readable errors if they fail."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.core.urls import redacted_text
from pipeline.promotion import dvc_cache
from pipeline.promotion.dvc_cache import LOCK
from pipeline.promotion.errors import RepositoryError
from pipeline.promotion.reasons import reason

# For commits and tags on machines where git has no name for the user, such as CI.
_IDENTITY = {
    "GIT_AUTHOR_NAME": "retrain",
    "GIT_AUTHOR_EMAIL": "retrain@localhost",
    "GIT_COMMITTER_NAME": "retrain",
    "GIT_COMMITTER_EMAIL": "retrain@localhost",
}


class Repository:
    """A git checkout that DVC uses. `root` is its top, or the folder of this project in a larger repository.

    Raises:
        RepositoryError: a command fails. The error quotes the lines that say why.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def git(self, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
        """Run git and return its output, stripped."""
        return self._run(("git", *arguments), environment or {})

    def dvc(self, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
        """Run DVC and return its output, without progress bars."""
        return self._run((sys.executable, "-m", "dvc", *arguments), environment or {})

    def run_module(self, *command: str) -> tuple[int, str]:
        """Run a Python module that prints to the console; return its exit code, and why it failed."""
        complete = [sys.executable, "-m", *command]
        errors = b""
        with subprocess.Popen(complete, cwd=self.root, env=self._environment(), stderr=subprocess.PIPE) as process:
            try:
                for line in process.stderr or ():
                    errors += line
                    sys.stderr.write(line.decode(errors="replace"))
                    sys.stderr.flush()
            except BaseException:  # like subprocess.run
                process.kill()
                raise
        return process.returncode, reason(errors.decode(errors="replace")) or f"exit code {process.returncode}"

    def _run(self, command: tuple[str, ...], environment: Mapping[str, str]) -> str:
        done = subprocess.run(
            command,
            cwd=self.root,
            env={**self._environment(), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode != 0:
            shown = " ".join(command).replace(f"{sys.executable} -m ", "")
            found = reason(f"{done.stdout}\n{done.stderr}") or f"exit code {done.returncode}"
            raise RepositoryError(redacted_text(shown)[:100], found)
        return done.stdout.strip()

    def _environment(self) -> dict[str, str]:
        named = subprocess.run(["git", "config", "user.email"], cwd=self.root, capture_output=True, check=False)  # noqa: S607 - git, from PATH
        identity = {} if named.returncode == 0 else _IDENTITY
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        return {**identity, **os.environ, "PATH": path, "GIT_TERMINAL_PROMPT": "0", "LANGUAGE": "en"}

    def branch(self) -> str:
        """The current branch.

        Raises:
            RepositoryError: there is no git checkout, or no commit, or git refuses the folder, or no branch is checked out.
        """
        name = self.git("rev-parse", "--abbrev-ref", "HEAD")
        if name == "HEAD":
            raise RepositoryError("git rev-parse --abbrev-ref HEAD", "HEAD names a commit and no branch (detached)")
        return name

    def setting(self, key: str) -> str | None:
        """The value of a key in git's configuration, or None."""
        try:
            return self.git("config", "--get", key)
        except RepositoryError:
            return None

    def published_files(self) -> list[str]:
        """The tracked files that `dvc repro` writes: dvc.lock, and the metrics and plots that git stores instead of DVC."""
        stages = YAML(typ="safe").load(self.root / "dvc.yaml")["stages"].values()
        entries = [entry for stage in stages for kind in ("metrics", "plots") for entry in stage.get(kind, [])]
        return [LOCK, *(path for entry in entries for path, options in entry.items() if options.get("cache") is False)]

    def changed(self, files: Sequence[str] = ()) -> list[str]:
        """The tracked files below `root` that differ from the last commit.

        With `files`: those of them that differ or are untracked.
        """
        listed = self.git("diff", "--name-only", "-z", "--relative", "HEAD", "--", *files)
        untracked = self.git("ls-files", "--others", "-z", "--", *files) if files else ""
        return [name for name in f"{listed}\0{untracked}".split("\0") if name]

    def commit(self, files: Sequence[str], message: str) -> None:
        """Commit `files` and nothing else, although other files may be staged."""
        self.git("add", "--", *files)
        self.git("commit", "--quiet", "--message", message, "--", *files)

    def restore(self, files: Sequence[str]) -> None:
        """Restore `files`, and the outputs that dvc.lock names, to the last commit.

        DVC checks out only the outputs that differ: if its cache has lost an output, a checkout would remove it.
        """
        known = self.git("ls-tree", "--name-only", "HEAD", "--", *files).splitlines()
        self.git("checkout", "--quiet", "HEAD", "--", *known)
        for file in set(files) - set(known):
            (self.root / file).unlink(missing_ok=True)
        if outputs := dvc_cache.differing(self.root):
            self.dvc("checkout", "--quiet", "--force", "--allow-missing", *(str(path) for path in outputs))
