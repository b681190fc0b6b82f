"""Champions of the model registry: who was champion when, and why."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import mlflow
from mlflow.exceptions import MlflowException

from pipeline.core import files
from pipeline.tracking import registry
from pipeline.tracking.errors import NoVersionError
from pipeline.tracking.registry import CHAMPION, PREVIOUS, Version, aliased

# Tags of the registered model.
_MOVE = "move."  # one per move of the alias champion, with its number
_LAST_CYCLE = "last_cycle"

_DECISION = "promotion.json"  # the artifact that holds the decision
# MLflow limits a tag's value to 5,000 characters. A reason shares its tag with the rest of the move.
_VALUE_LENGTH, _REASON_LENGTH = 5000, 4000


class Move(NamedTuple):
    """Who became champion when, whom it replaced, and why."""

    number: int
    at: str  # ISO 8601, UTC
    champion: int
    previous: int | None
    reason: str


class Cycle(NamedTuple):
    """A retraining cycle: when and how it ended."""

    at: datetime
    outcome: str


def record_decision(version: Version, record: Mapping[str, Any], path: Path) -> None:
    """Log a decision, which is also the file `path`, to the version's run, and tag both the version and the run with it."""
    client = mlflow.MlflowClient()
    client.log_artifact(version.run_id, str(path))
    verdict = "promoted" if record["promote"] else "refused"
    for key, value in (("promotion", verdict), ("promotion.reason", record["sentence"])):
        client.set_model_version_tag(version.name, str(version.number), key, value[:_VALUE_LENGTH])
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
    tags = mlflow.MlflowClient().get_registered_model(name).tags
    return [Move(**json.loads(value)) for key, value in sorted(tags.items()) if key.startswith(_MOVE)]


def make_champion(version: Version, reason: str) -> Move:
    """Point the alias champion to `version` and the alias previous to the champion so far, and record the move."""
    client, replaced = mlflow.MlflowClient(), aliased(version.name, CHAMPION)
    if replaced:
        client.set_registered_model_alias(version.name, PREVIOUS, str(replaced.number))
    client.set_registered_model_alias(version.name, CHAMPION, str(version.number))
    return _record_move(version, replaced.number if replaced else None, reason)


def roll_back(name: str) -> tuple[Version, Version]:
    """Make the previous champion champion again; return it and the version that it replaces, which is now withdrawn.

    Raises:
        NoVersionError: there is no previous champion.
    """
    previous, champion = aliased(name, PREVIOUS), aliased(name, CHAMPION)
    if previous is None or champion is None:
        raise NoVersionError(name, PREVIOUS, "You can roll back only a champion that replaced another.")
    registry.tag(champion, registry.WITHDRAWN, f"rolled back to version {previous.number}")
    make_champion(previous, f"rolled back from version {champion.number}")
    return previous, champion


def reconcile(name: str) -> Move | None:
    """Record a move of the alias champion that has no record: one by hand, or by a promotion that was interrupted."""
    recorded, champion = moves(name), aliased(name, CHAMPION)
    last = recorded[-1].champion if recorded else None
    if champion is None or champion.number == last:
        return None
    if last is not None:
        mlflow.MlflowClient().set_registered_model_alias(name, PREVIOUS, str(last))
    return _record_move(champion, last, "moved by hand, or by a promotion that was interrupted")


def _record_move(version: Version, previous: int | None, reason: str) -> Move:
    number = len(moves(version.name)) + 1
    move = Move(number, _now(), version.number, previous, reason[:_REASON_LENGTH])
    key = f"{_MOVE}{number:05}"
    mlflow.MlflowClient().set_registered_model_tag(version.name, key, json.dumps(move._asdict()))
    return move


def record_cycle(name: str, outcome: str) -> None:
    """Record on the registered model, if it exists, that a retraining cycle ended now."""
    content = json.dumps({"at": _now(), "outcome": outcome})
    try:
        mlflow.MlflowClient().set_registered_model_tag(name, _LAST_CYCLE, content)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


def last_cycle(name: str) -> Cycle | None:
    """The last retraining cycle that did not fail, or None."""
    try:
        tags = mlflow.MlflowClient().get_registered_model(name).tags
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    if _LAST_CYCLE not in tags:
        return None
    content = json.loads(tags[_LAST_CYCLE])
    return Cycle(datetime.fromisoformat(content["at"]), content["outcome"])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
