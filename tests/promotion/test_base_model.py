"""Where the model of another revision comes from: the real git and DVC, with a stage that copies a file."""

import shutil
from pathlib import Path

import pytest

from pipeline.promotion import base_model
from pipeline.promotion.errors import RepositoryError
from pipeline.promotion.repository import Repository
from tests.chaos.conftest import LONG
from tests.published import git

STAGES = """stages:
  export:
    cmd: cat weights > data/model/model.onnx
    deps: [weights]
    outs: [data/model/model.onnx]
"""


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A project in a folder of a repository; the base is HEAD~1, and its outputs are in the cache."""
    root = tmp_path / "repository" / "project"
    (root / "data" / "model").mkdir(parents=True)
    (root / "data" / "model" / ".gitignore").write_text("/model.onnx\n")
    (root / "dvc.yaml").write_text(STAGES)
    git(root.parent, "init", "--quiet")
    found = Repository(root)
    found.dvc("init", "--quiet", "--subdir")
    (root / "weights").write_text("base")
    found.dvc("repro", "--quiet")
    found.git("add", "--all")
    found.git("commit", "--quiet", "--message", "base")
    (root / "weights").write_text("changed")
    found.git("commit", "--quiet", "--all", "--message", "changed")
    return found


def obtained(repository: Repository) -> str:
    with base_model.checked_out(repository, "HEAD~1") as model:
        return model.read_text()


def test_it_comes_from_the_cache_and_the_checkout_stays(repository: Repository) -> None:
    assert obtained(repository) == "base"

    assert repository.git("status", "--porcelain") == ""
    assert len(repository.git("worktree", "list").splitlines()) == 1


@pytest.mark.skipif(not LONG, reason="CHAOS=1 runs it")
def test_where_the_cache_lacks_it_it_comes_from_the_remote_or_is_rebuilt(repository: Repository, tmp_path: Path) -> None:
    shutil.rmtree(repository.root / ".dvc" / "cache")
    assert obtained(repository) == "base"

    repository.dvc("remote", "add", "--quiet", "--local", "--default", "store", str(tmp_path / "store"))
    repository.dvc("push", "--quiet", "--all-commits")
    shutil.rmtree(repository.root / ".dvc" / "cache")
    assert obtained(repository) == "base"


@pytest.mark.skipif(not LONG, reason="CHAOS=1 runs it")
def test_a_base_whose_stages_fail_is_an_error_and_leaves_nothing(repository: Repository) -> None:
    (repository.root / "dvc.yaml").write_text(STAGES.replace("cat", "false"))
    for content in ("fails", "later"):
        repository.git("commit", "--quiet", "--all", "--allow-empty", "--message", content)
    shutil.rmtree(repository.root / ".dvc" / "cache")

    with pytest.raises(RepositoryError, match="export"):
        obtained(repository)
    assert len(repository.git("worktree", "list").splitlines()) == 1
