"""SIGKILL in the other stages; see test_kills.py."""

import pytest

from tests.chaos import victims
from tests.chaos.conftest import LONG, Chaos
from tests.clones import Clone
from tests.conftest import Repository, Split

STAGES = ["validate", "export", "evaluate", "register"]


@pytest.fixture(scope="module")
def clone(built: Repository, tmp_path_factory: pytest.TempPathFactory, subset: dict[str, Split]) -> Clone:
    return victims.clone_of(built, tmp_path_factory.mktemp("kills") / "clone", subset)


@pytest.mark.parametrize("stage", STAGES if LONG else [])
def test_sigkill_in_a_stage_loses_nothing(stage: str, clone: Clone, chaos: Chaos) -> None:
    victims.survive(stage, clone, chaos)
