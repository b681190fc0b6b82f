"""A small checkout whose only stage is the model, a bare git repository and a DVC remote: all that publishing needs."""

import json
import logging
import logging.config
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

# At import, these replace the streams of this process by those of now, and let absl close stderr.
with mock.patch("colorama.init"), mock.patch("logging.config.dictConfig"):
    import dvc.cli
    import gto
    from dvc.repo.artifacts import Artifacts
    from dvc.repo.open_repo import clean_repos

from pipeline.core import files
from pipeline.core.paths import Paths
from pipeline.promotion import git_tags
from pipeline.promotion.errors import RepositoryError
from pipeline.promotion.publishing import Publisher
from pipeline.promotion.reasons import reason
from pipeline.promotion.repository import Repository

assert gto  # DVC imports it when it needs it
NAME = "mnist-dense"
ONNX = "data/model/model.onnx"


def dvc_yaml(outs: Sequence[str]) -> str:
    content = {
        "stages": {"export": {"cmd": "python -m pipeline.export", "outs": list(outs)}},
        "artifacts": {NAME: {"path": ONNX, "type": "model"}},
    }
    return json.dumps(content)  # which is YAML


def lock_outputs(root: Path, outs: Sequence[str]) -> None:
    """Write dvc.lock and put the outputs into DVC's cache, as `dvc commit` does, which takes a second."""
    entries = []
    for out in outs:
        md5 = files.md5(root / out)
        entries.append({"path": out, "hash": "md5", "md5": md5, "size": (root / out).stat().st_size})
        cached = root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
        cached.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / out, cached)
    content = {"schema": "2.0", "stages": {"export": {"cmd": "python -m pipeline.export", "outs": entries}}}
    (root / "dvc.lock").write_text(json.dumps(content, indent=1))


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@dataclass(frozen=True)
class Checkout:
    """A clone; the project is in `root`, which is the clone or a folder of it."""

    root: Path

    @property
    def publisher(self) -> Publisher:
        return Publisher(Paths(self.root), NAME)

    def git(self, *arguments: str) -> str:
        return git(self.root, *arguments)

    def write(self, content: str) -> str:
        """Write a model and its entry in dvc.lock, as the stage does, without a commit; return its MD5."""
        paths = Paths(self.root)
        paths.onnx.parent.mkdir(parents=True, exist_ok=True)
        paths.onnx.write_text(content)
        lock_outputs(self.root, [ONNX])
        return files.md5(paths.onnx)

    def commit(self, content: str) -> str:
        md5 = self.write(content)
        self.git("add", "dvc.lock")
        self.git("commit", "--quiet", "--message", content)
        return md5

    def tag(self, md5: str) -> str:
        """Tag the model as champion, as a promotion does; return its version."""
        return git_tags.tag_champion(self.root, NAME, Paths(self.root).onnx, md5, "message").version

    def publish(self, content: str) -> Publisher:
        """Commit, tag and publish a model, as a cycle does."""
        publisher = self.publisher
        publisher.prepare()
        md5 = self.commit(content)
        self.tag(md5)
        publisher.publish(md5)
        return publisher


@dataclass(frozen=True)
class Home:
    """The remotes, and a clone of them with one published champion, `first`."""

    folder: Path

    @property
    def origin(self) -> Path:
        return self.folder / "origin.git"

    def clone(self, name: str, *options: str) -> Checkout:
        git(self.folder, "clone", "--quiet", *options, self.origin.as_uri(), name)
        return Checkout(self.folder / name)

    def refs(self, remote: str = "origin.git") -> dict[str, str]:
        lines = git(self.folder / remote, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        return dict(line.split() for line in lines)

    def pulled(self, remote: str = "origin.git", artifact: str = NAME) -> str:
        """The content that `dvc artifacts get --stage champion` gives to somebody who knows the address alone."""
        return pulled((self.folder / remote).as_uri(), artifact, self.folder / "pulled")


def pulled(address: str, artifact: str, target: Path) -> str:
    with dvc_messages():
        Artifacts.get(address, artifact, stage="champion", out=str(target), force=True)
    return target.read_bytes().decode(errors="replace")


class _Messages(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        cause, causes = (record.exc_info or (None, None))[1], []
        while cause:
            causes.append(str(cause))
            cause = cause.__cause__
        self.lines.append(f"{record.levelname}: {record.getMessage()} - {': '.join(causes)}")  # as DVC formats it


@contextmanager
def dvc_messages() -> Iterator[list[str]]:
    """Collect DVC's messages. Its own handlers hold the stderr of the test that imported it, which is closed by now."""
    messages, logger = _Messages(), logging.getLogger("dvc")
    logger.handlers = [messages]
    try:
        yield messages.lines
    finally:
        clean_repos()


def dvc_here(repository: Repository, *arguments: str) -> str:
    """Stands for `Repository.dvc`: in this process, which spares a second each time."""
    with dvc_messages() as messages, chdir(repository.root):
        if dvc.cli.main(list(arguments)):
            raise RepositoryError(f"dvc {' '.join(arguments)}", reason("\n".join(messages)))
    return ""


@contextmanager
def person() -> Iterator[None]:
    """Give git a name, and hide the configuration of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        patch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
        patch.setenv("DVC_NO_ANALYTICS", "1")
        for role in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{role}_NAME", "tester")
            patch.setenv(f"GIT_{role}_EMAIL", "tester@localhost")
        patch.setattr(Repository, "dvc", dvc_here)
        yield


def create_home(folder: Path) -> None:
    """Create the remotes and publish the champion `first` from `folder`/work."""
    home = Home(folder)
    git(folder, "init", "--quiet", "--bare", "--initial-branch", "main", "origin.git")
    checkout = home.clone("work")
    create_project(checkout, folder / "store")
    checkout.git("push", "--quiet", "origin", "HEAD:main")
    checkout.git("branch", "--quiet", "--set-upstream-to", "origin/main")
    checkout.publish("first")


def create_project(checkout: Checkout, store: Path, outs: Sequence[str] = (ONNX,)) -> None:
    (checkout.root / ".dvc").mkdir(parents=True)
    (checkout.root / ".dvc" / "config").write_text(f"[core]\n    remote = store\n['remote \"store\"']\n    url = {store}\n")
    (checkout.root / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (checkout.root / ".gitignore").write_text("/data\n/mlruns\n")
    (checkout.root / "dvc.yaml").write_text(dvc_yaml(outs))
    checkout.git("add", "--all", ".")
    checkout.git("commit", "--quiet", "--message", "Project")
