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
from pipeline.tracking.registry import CHAMPION, PREVIOUS, Version, aliased

_MOVE = "move."  # the tags of the registered model that record its champions


_LAST_CYCLE = "last_cycle"


_DECISION = "promotion.json"


class Move(NamedTuple):
    """Who became champion when, in whose place, and why."""

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
    """Log a decision, which also lies at `path`, on the version's run, and tag the version with it."""
    client = mlflow.MlflowClient()
    client.log_artifact(version.run_id, str(path))
    verdict = "promoted" if record["promote"] else "refused"
    for key, value in (("promotion", verdict), ("promotion.reason", record["sentence"])):
        client.set_model_version_tag(version.name, str(version.number), key, value[:5000])
        client.set_tag(version.run_id, key, value[:5000])


def recorded_decision(version: Version) -> Any:
    """The decision that was logged on the version's run; None where there is none."""
    client = mlflow.MlflowClient()
    if not any(entry.path == _DECISION for entry in client.list_artifacts(version.run_id)):
        return None
    with TemporaryDirectory(prefix="decision-") as folder:
        return files.read_json(Path(client.download_artifacts(version.run_id, _DECISION, folder)))


def moves(name: str) -> list[Move]:
    """Every move of the alias champion, from the first."""
    tags = mlflow.MlflowClient().get_registered_model(name).tags
    return [Move(**json.loads(value)) for key, value in sorted(tags.items()) if key.startswith(_MOVE)]


def make_champion(version: Version, reason: str) -> Move:
    """Point the alias champion at `version` and the alias previous at the champion until now, and record the move."""
    client, until_now = mlflow.MlflowClient(), aliased(version.name, CHAMPION)
    if until_now:
        client.set_registered_model_alias(version.name, PREVIOUS, str(until_now.number))
    client.set_registered_model_alias(version.name, CHAMPION, str(version.number))
    return _record_move(version, until_now.number if until_now else None, reason)


def reconcile(name: str) -> Move | None:
    """Record the move of a champion that came to it without a record: by hand, or by a promotion that was cut short."""
    recorded, named = moves(name), aliased(name, CHAMPION)
    last = recorded[-1].champion if recorded else None
    if named is None or named.number == last:
        return None
    if last is not None:
        mlflow.MlflowClient().set_registered_model_alias(name, PREVIOUS, str(last))
    return _record_move(named, last, "found moved, by hand or by a promotion that was cut short")


def _record_move(version: Version, previous: int | None, reason: str) -> Move:
    number = len(moves(version.name)) + 1
    move = Move(number, datetime.now(UTC).isoformat(timespec="seconds"), version.number, previous, reason[:4000])
    key = f"{_MOVE}{number:05}"
    mlflow.MlflowClient().set_registered_model_tag(version.name, key, json.dumps(move._asdict()))
    return move


def record_cycle(name: str, outcome: str) -> None:
    """Note on the registered model, if there is one, that a retraining cycle ended now."""
    content = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "outcome": outcome}
    try:
        mlflow.MlflowClient().set_registered_model_tag(name, _LAST_CYCLE, json.dumps(content))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


def last_cycle(name: str) -> Cycle | None:
    """The last retraining cycle, or None."""
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
