"""The git checkout and its DVC cache: the commands that publish a model, and readable errors if they fail."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.core.urls import redacted_text
from pipeline.promotion import dvc_cache
from pipeline.promotion.dvc_cache import LOCK
from pipeline.promotion.errors import RepositoryError

# For commits and tags on machines where git has no name for the user, such as CI.
_IDENTITY = {
    "GIT_AUTHOR_NAME": "retrain",
    "GIT_AUTHOR_EMAIL": "retrain@localhost",
    "GIT_COMMITTER_NAME": "retrain",
    "GIT_COMMITTER_EMAIL": "retrain@localhost",
}


class Repository:
    """A git checkout at `root` that DVC uses.

    Raises:
        RepositoryError: a command fails. The error quotes what the command printed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def git(self, *arguments: str) -> str:
        """Run git and return its output, stripped."""
        return self._run("git", *arguments)

    def dvc(self, *arguments: str) -> str:
        """Run DVC and return its output, without progress bars."""
        return self._run(sys.executable, "-m", "dvc", *arguments)

    def run_module(self, *command: str) -> int:
        """Run a Python module that prints to the console; return its exit code."""
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
            shown = " ".join(command).replace(f"{sys.executable} -m ", "")
            lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            found = redacted_text(lines[-1]) if lines else f"exit code {done.returncode}"
            raise RepositoryError(redacted_text(shown)[:100], found)
        return done.stdout.strip()

    def _environment(self) -> dict[str, str]:
        named = subprocess.run(["git", "config", "user.email"], cwd=self.root, capture_output=True, check=False)  # noqa: S607 - git, from PATH
        identity = {} if named.returncode == 0 else _IDENTITY
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        return {**identity, **os.environ, "PATH": path, "GIT_TERMINAL_PROMPT": "0"}

    def branch(self) -> str | None:
        """The current branch; None without a git checkout, without a commit, or with a detached HEAD."""
        try:
            name = self.git("rev-parse", "--abbrev-ref", "HEAD")
        except RepositoryError:
            return None
        return None if name == "HEAD" else name

    def published_files(self) -> list[str]:
        """The tracked files that `dvc repro` writes: dvc.lock, and the metrics and plots that git stores instead of DVC."""
        stages = YAML(typ="safe").load(self.root / "dvc.yaml")["stages"].values()
        entries = [entry for stage in stages for kind in ("metrics", "plots") for entry in stage.get(kind, [])]
        return [LOCK, *(path for entry in entries for path, options in entry.items() if options.get("cache") is False)]

    def changed(self, files: Sequence[str] = ()) -> list[str]:
        """The tracked files that differ from the last commit. With `files`: those of them that differ or are untracked."""
        listed = self.git("diff", "--name-only", "HEAD", "--", *files).splitlines()
        return listed + (self.git("ls-files", "--others", "--", *files).splitlines() if files else [])

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

    def has_dvc_remote(self) -> bool:
        return bool(self.dvc("remote", "list"))

    def remote(self) -> str | None:
        """The git remote to push to: `origin`, or else the first one; None if there is none."""
        remotes = self.git("remote").split()
        return "origin" if "origin" in remotes else next(iter(remotes), None)

    def ahead(self) -> bool:
        """Whether the branch holds commits that its remote lacks, as far as this checkout knows."""
        if self.remote() is None:
            return False
        try:
            return self.git("rev-list", "--count", "@{upstream}..HEAD") != "0"
        except RepositoryError:  # the branch was never pushed
            return True

    def push(self) -> None:
        """Push the outputs first, then the branch and its tags at once, so that no pushed commit lacks its files."""
        if self.has_dvc_remote():
            self.dvc("push", "--quiet", "--run-cache")
        if remote := self.remote():
            self.git("push", "--quiet", "--atomic", "--follow-tags", "--set-upstream", remote, "HEAD")
