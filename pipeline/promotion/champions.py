"""Champions of the model registry: who was champion when, and why."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import mlflow
from mlflow.exceptions import MlflowException

from pipeline.core import files
from pipeline.tracking import descriptions, registry
from pipeline.tracking.errors import NoVersionError
from pipeline.tracking.registry import CHALLENGER, CHAMPION, PREVIOUS, Hashes, Version, aliased

# Tags of the registered model. MLflow's UI shows none that begin with "mlflow."; the description tells people.
_MOVE = "mlflow.pipeline.move."  # one per move of the alias champion, with its number
_EARLIER_MOVE = "move."  # in stores of earlier versions
_LAST_CYCLE = "last_cycle"

_DECISION = "promotion.json"  # the artifact that holds the decision
# MLflow limits a tag's value to 5,000 characters. A reason shares its tag with the rest of the move.
_VALUE_LENGTH, _REASON_LENGTH = 5000, 4000
_DESCRIBED_MOVES, _DESCRIBED_REASON = 8, 200  # moves in the description, and characters of the reason of each


class Move(NamedTuple):
    """Who became champion when, whom it replaced, and why."""

    number: int
    at: str  # ISO 8601, UTC
    champion: int
    previous: int | None
    reason: str
    model: Hashes | None = None  # of the champion; earlier pipelines did not record it


class Cycle(NamedTuple):
    """A retraining cycle: when and how it ended."""

    at: datetime
    outcome: str


def log_decision(version: Version, record: Mapping[str, Any]) -> None:
    """Log a decision to the version's run."""
    mlflow.MlflowClient().log_dict(version.run_id, dict(record), _DECISION)


def tag_decision(version: Version, record: Mapping[str, Any]) -> None:
    """Tag both the version and its run with a decision that was carried out."""
    client, verdict = mlflow.MlflowClient(), "promoted" if record["promote"] else "refused"
    for key, value in (("promotion", verdict), ("promotion.reason", record["sentence"])):
        registry.tag(version, key, value[:_VALUE_LENGTH])
        client.set_tag(version.run_id, key, value[:_VALUE_LENGTH])


def recorded_decision(version: Version) -> Any:
    """The decision that the version's run holds, or None."""
    client = mlflow.MlflowClient()
    if not any(entry.path == _DECISION for entry in client.list_artifacts(version.run_id)):
        return None
    with TemporaryDirectory(prefix="decision-") as folder:
        return files.read_json(Path(client.download_artifacts(version.run_id, _DECISION, folder)))


def moves(name: str) -> list[Move]:
    """Every move of the alias champion, oldest first."""
    tags = _tags(name).items()
    found = [json.loads(value) for key, value in tags if key.startswith((_MOVE, _EARLIER_MOVE))]
    moved = [Move(**{**move, "model": Hashes(*move["model"]) if move.get("model") else None}) for move in found]
    return sorted(moved, key=lambda move: move.number)


def make_champion(version: Version, reason: str) -> None:
    """Point the alias champion to `version`, and previous to the champion so far, and record the move.

    A version that is champion already keeps its alias, and the move is recorded unless it was.
    """
    client, replaced = mlflow.MlflowClient(), aliased(version.name, CHAMPION)
    if replaced and replaced.number == version.number:
        record_move(version, reason)
        return
    if replaced and replaced.hashes != version.hashes:
        client.set_registered_model_alias(version.name, PREVIOUS, str(replaced.number))
    client.set_registered_model_alias(version.name, CHAMPION, str(version.number))
    remove_challenger(version)
    record_move(version, reason)


def record_by_hand(version: Version, last: Move | None) -> None:
    """Record that somebody moved the alias champion to the version, or a promotion that was interrupted."""
    if last:
        with suppress(MlflowException):  # that version was deleted
            mlflow.MlflowClient().set_registered_model_alias(version.name, PREVIOUS, str(last.champion))
    record_move(version, "moved by hand, or by a promotion that was interrupted")


def remove_challenger(version: Version) -> None:
    """Remove the alias challenger from the version, if it has it: a decision was made on it."""
    challenger = aliased(version.name, CHALLENGER)
    if challenger and challenger.number == version.number:
        mlflow.MlflowClient().delete_registered_model_alias(version.name, CHALLENGER)


def roll_back(name: str, number: int | None, model: Hashes | None) -> Version:
    """Make the last champion of another model champion again that can be served and was not withdrawn; return it.

    Args:
        number, model: the version to withdraw, and its model; the version may have been deleted.

    Raises:
        NoVersionError: there is none.
    """
    found = next(filter(None, (_earlier(name, move, model) for move in reversed(moves(name)))), None)
    if found is None:
        todo = (
            "A rollback needs an earlier champion of another model, which was not withdrawn and whose files the store holds."
        )
        raise NoVersionError(name, PREVIOUS, todo)
    if number and (withdrawn := registry.numbered(name, number)):
        registry.tag(withdrawn, registry.WITHDRAWN, f"rolled back to version {found.number}")
    make_champion(found, f"rolled back from version {number}")
    return found


def _earlier(name: str, move: Move, model: Hashes | None) -> Version | None:
    """The version that holds the model of a move, if it is another model than `model` and can be champion again."""
    version = registry.numbered(name, move.champion)
    earlier = version.hashes if version else move.model
    best = registry.best(name, earlier) if earlier and earlier != model else None
    usable = best and best.files and not registry.tag_of_model(best.version, registry.WITHDRAWN)
    return best.version if best and usable else None


def record_move(version: Version, reason: str) -> None:
    """Record that the version became champion, unless that is the last record, and describe the registered model by it."""
    known = moves(version.name)
    last = known[-1] if known else None
    if last is None or last.champion != version.number:
        number, previous = (last.number + 1, last.champion) if last else (1, None)
        move = Move(number, _now(), version.number, previous, reason[:_REASON_LENGTH], version.hashes)
        mlflow.MlflowClient().set_registered_model_tag(version.name, f"{_MOVE}{number:05}", json.dumps(move._asdict()))
        known.append(move)
    descriptions.describe_champions(version, history(known))


def history(known: Sequence[Move]) -> str:
    """Who was champion when, and why, as a table in Markdown, the current champion first."""
    rows = [
        f"| {move.at[:16].replace('T', ' ')} | {move.champion} | {move.previous or 'none'} | {_in_cell(move.reason)} |"
        for move in known[: -_DESCRIBED_MOVES - 1 : -1]
    ]
    title = "## Champions" if len(rows) == len(known) else "## Champions (`python -m pipeline.promote --history` lists all)"
    return "\n".join([title, "", "| since (UTC) | version | in place of | why |", "|---|---|---|---|", *rows])


def _in_cell(text: str) -> str:
    shown = text if len(text) <= _DESCRIBED_REASON else f"{text[: _DESCRIBED_REASON - 1]}…"
    return shown.replace("\n", " ").replace("|", "\\|")


def record_cycle(name: str, outcome: str) -> None:
    """Record on the registered model, if it exists, that a retraining cycle ended now."""
    content = f"{_now()}, {outcome}"
    try:
        mlflow.MlflowClient().set_registered_model_tag(name, _LAST_CYCLE, content)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


def last_cycle(name: str) -> Cycle | None:
    """The last retraining cycle that did not fail, or None."""
    tags = _tags(name)
    if _LAST_CYCLE not in tags:
        return None
    value = tags[_LAST_CYCLE]
    if value.startswith("{"):  # as earlier versions wrote it
        content = json.loads(value)
        return Cycle(datetime.fromisoformat(content["at"]), content["outcome"])
    at, _, outcome = value.partition(", ")
    return Cycle(datetime.fromisoformat(at), outcome)


def _tags(name: str) -> Mapping[str, str]:
    """The tags of the registered model; none if there is no such model."""
    try:
        return dict(mlflow.MlflowClient().get_registered_model(name).tags)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
