"""SIGKILL at any moment of any stage: the next `dvc repro` completes, with the results of an undisturbed run."""

import pytest

from tests.chaos import victims
from tests.chaos.conftest import LONG, Chaos
from tests.clones import Clone
from tests.conftest import Repository, Split

STAGES = ["fetch", "train", "explain"]  # the others are in test_kills_late.py, which another process runs in parallel


@pytest.fixture(scope="module")
def clone(built: Repository, tmp_path_factory: pytest.TempPathFactory, subset: dict[str, Split]) -> Clone:
    return victims.clone_of(built, tmp_path_factory.mktemp("kills") / "clone", subset)


@pytest.mark.parametrize("stage", STAGES if LONG else [])
def test_sigkill_in_a_stage_loses_nothing(stage: str, clone: Clone, chaos: Chaos) -> None:
    victims.survive(stage, clone, chaos)
