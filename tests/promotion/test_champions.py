"""Who was champion when: for people in the description, for the program in hidden tags, also of an earlier version."""

import json
from datetime import UTC, datetime
from typing import Any

from pipeline import rollback
from pipeline.promotion import champions
from pipeline.promotion.champions import Move
from pipeline.tracking.connection import connected
from tests.champions import NAME, aliases, another, variant
from tests.conftest import Repository
from tests.test_promote import challenge, command


def to_earlier(client: Any) -> None:
    """Name the tags as the version before this one did."""
    for key, value in client.get_registered_model(NAME).tags.items():
        if key.startswith("mlflow.pipeline.move."):
            client.set_registered_model_tag(NAME, key.removeprefix("mlflow.pipeline."), value)
            client.delete_registered_model_tag(NAME, key)


def test_moves_that_an_earlier_version_recorded_are_read_and_continued(repository: Repository, client: Any) -> None:
    to_earlier(client)
    assert sorted(client.get_registered_model(NAME).tags) == ["move.00001", "move.00002"]

    challenge(variant(repository, 0.4), another)
    command(repository)
    command(repository, rollback)

    assert [(move.number, move.champion, move.previous) for move in champions.moves(NAME)] == [
        (1, 1, None),
        (2, 2, 1),
        (3, 3, 2),
        (4, 2, 3),
    ]
    assert aliases(client)["champion"] == 2


def test_the_registered_model_says_who_was_champion_when(repository: Repository, client: Any) -> None:
    command(repository, rollback)

    model = client.get_registered_model(NAME)

    rows = [line.split("|")[1:4] for line in model.description.splitlines() if line.startswith("| 20")]
    first, second, third = champions.moves(NAME)
    assert [[cell.strip() for cell in row] for row in rows] == [
        [third.at[:16].replace("T", " "), "1", "2"],
        [second.at[:16].replace("T", " "), "2", "1"],
        [first.at[:16].replace("T", " "), "1", "none"],
    ]
    assert "rolled back from version 2" in model.description
    assert model.description.index("## Champions") < model.description.index("# Model card: mnist")
    assert all(key.startswith("mlflow.") for key in model.tags)
    assert len(model.description) <= 5000


def test_reasons_break_no_table_and_a_long_history_is_cut() -> None:
    moves = [Move(number, "2026-01-01T00:00:00+00:00", number, number - 1, "a | b\n" + "x" * 4000) for number in range(1, 30)]

    lines = champions.history(moves).splitlines()

    assert "pipeline.promote --history" in lines[0]
    assert [line.split(" | ")[1] for line in lines[4:]] == [str(number) for number in range(29, 21, -1)]
    assert all(r"a \| b x" in line and len(line) < 300 for line in lines[4:])


def test_a_cycle_that_an_earlier_version_recorded_is_read(repository: Repository, client: Any) -> None:
    at = "2026-11-01T12:00:00+00:00"
    with connected(repository.params, repository.paths):
        assert champions.last_cycle(NAME) is None
        client.set_registered_model_tag(NAME, "last_cycle", json.dumps({"at": at, "outcome": "promoted, not pushed"}))
        earlier = champions.last_cycle(NAME)
        champions.record_cycle(NAME, "promoted, not pushed")
        now = champions.last_cycle(NAME)

    assert earlier == (datetime.fromisoformat(at), "promoted, not pushed")
    assert now is not None
    assert now.outcome == "promoted, not pushed"
    assert (datetime.now(UTC) - now.at).total_seconds() < 60
    assert client.get_registered_model(NAME).tags["last_cycle"].endswith(", promoted, not pushed")
