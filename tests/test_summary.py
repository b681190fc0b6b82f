import argparse
import shutil
from pathlib import Path

import pytest

from pipeline import summary
from pipeline.core.paths import Paths
from pipeline.promotion import git_tags
from pipeline.promotion.errors import GitTagError
from tests.clones import git
from tests.conftest import Repository
from tests.imports import ROOT


@pytest.fixture
def committed(built: Repository, tmp_path: Path) -> Path:
    """A copy of the built tree in which all files that git tracks are committed."""
    root = tmp_path / "tree"
    shutil.copytree(built.paths.root, root, ignore=shutil.ignore_patterns("artifacts", "source", "raw"))
    (root / "data" / "raw").mkdir()
    shutil.copy(built.paths.manifest, root / "data" / "raw")
    shutil.copy(ROOT / "dvc.yaml", root)
    (root / "dvc.lock").write_text("stages: {}\n")
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "Results")
    return root


def printed(root: Path, built: Repository, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert summary.run(argparse.Namespace(), built.params, Paths(root)) == 0
    return capsys.readouterr().out.splitlines()


def test_the_summary_says_what_to_commit_and_why(
    committed: Path, built: Repository, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = printed(committed, built, capsys)
    (committed / "dvc.lock").write_text("stages: {}\n\n")
    changed = printed(committed, built, capsys)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")

    assert [line.split()[0] for line in clean] == ["accuracy", "model", "results"]
    assert changed == [*clean, "commit    `git add dvc.lock && git commit` lets you restore these results at any time"]
    assert printed(committed, built, capsys) == clean  # git cannot tell


def test_changed_parameters_are_committed_with_the_results(
    committed: Path, built: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    (committed / "dvc.lock").write_text("stages: {}\n\n")
    (committed / "params.yaml").write_text("train: {}\n")

    *_, last = printed(committed, built, capsys)

    assert "`git add dvc.lock params.yaml && git commit`" in last


def test_outputs_are_pushed_where_there_is_a_remote(
    committed: Path, built: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    (committed / ".dvc").mkdir()
    (committed / ".dvc" / "config").write_text(
        "[core]\n    remote = store\n['remote \"store\"']\n    url = s3://bucket/outputs\n"
    )
    clean = printed(committed, built, capsys)
    (committed / "dvc.lock").write_text("stages: {}\n\n")

    *_, commit, push = printed(committed, built, capsys)

    assert not [line for line in clean if "dvc push" in line]
    assert commit.startswith("commit")
    assert (
        push == "push      `dvc push` copies the outputs to s3://bucket/outputs, where everybody with that commit finds them"
    )


def test_tags_of_a_checkout_of_another_owner_are_not_taken_for_none(committed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert git_tags.champion(committed, "mnist-dense") is None
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")

    with pytest.raises(GitTagError, match=f"found one of another owner.*\n.*safe.directory {committed}"):
        git_tags.champion(committed, "mnist-dense")
