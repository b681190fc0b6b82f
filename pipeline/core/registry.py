"""The MLflow model registry: versions of the exported model, the aliases that name the ones that count, and their moves."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException

from pipeline.core import datasets, files, interrupts, recipe
from pipeline.core.connection import put_in
from pipeline.core.errors import AlteredModelError, NoVersionError, UnsafeModelError
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.core.tracking import ONNX_SHA256

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
RECIPE, SEED, WITHDRAWN, RELEASE = "recipe", "seed", "withdrawn", "release"  # tags of a version

_INT8_SHA256 = "int8_sha256"
_MOVE = "move."  # the tags of the registered model that record its champions
_TURN = "last_turn"
_DECISION = "promotion.json"

# What an MLmodel may say of how it is loaded, but for versions.
_FLAVOURS: dict[str, dict[str, Any]] = {
    "onnx": {"data": "model.onnx", "providers": ["CPUExecutionProvider"]},
    "python_function": {
        "data": "model.onnx",
        "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},  # names of files, which nothing here reads
        "loader_module": "mlflow.onnx",
    },
}
_VERSIONS = ("onnx_version", "python_version")


class Registration(NamedTuple):
    """A version of the registered model, and the run that made it."""

    run_id: str
    version: int
    created: bool


class Version(NamedTuple):
    """A version of the registered model as the store has it."""

    name: str
    number: int
    run_id: str
    tags: Mapping[str, str]

    @property
    def onnx_sha256(self) -> str:
        return self.tags.get(ONNX_SHA256, "")


class Move(NamedTuple):
    """Who became champion when, in whose place, and why."""

    number: int
    at: str  # ISO 8601, UTC
    champion: int
    previous: int | None
    reason: str


class Turn(NamedTuple):
    """A turn of retraining: when it ended, and how."""

    at: datetime
    outcome: str


def register(run_id: str, params: Params, paths: Paths) -> Registration:
    """Give the run's model a version and the alias challenger, unless this very file has one."""
    client, name, sha256 = mlflow.MlflowClient(), params.tracking.model, files.sha256(paths.onnx)
    versions = client.search_model_versions(f"run_id = '{run_id}'")
    known = [int(found.version) for found in versions if found.name == name and found.tags.get(ONNX_SHA256) == sha256]
    tags = _tags(sha256, params, paths)
    number = max(known) if known else int(mlflow.register_model(_log_model(paths), name, tags=tags).version)
    for key, value in tags.items() if known else ():  # they may be of an older pipeline
        client.set_model_version_tag(name, str(number), key, value)
    put_in(lambda: client.set_registered_model_alias(name, CHALLENGER, str(number)))
    return Registration(run_id, number, created=not known)


def _tags(onnx_sha256: str, params: Params, paths: Paths) -> dict[str, str]:
    fingerprint = datasets.read_manifest(paths)["fingerprint"]
    return {
        ONNX_SHA256: onnx_sha256,
        _INT8_SHA256: files.sha256(paths.int8),
        "data_fingerprint": fingerprint,
        RECIPE: recipe.digest(fingerprint, params),
        SEED: str(params.train.seed),
    }


def aliased(name: str, alias: str) -> Version | None:
    """The version that `alias` names, or None."""
    try:
        found = mlflow.MlflowClient().get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return Version(name, int(found.version), found.run_id, dict(found.tags))


def champion(name: str) -> Version:
    """Raise NoVersionError where there is none."""
    found = aliased(name, CHAMPION)
    if found is None:
        raise NoVersionError(name, CHAMPION, "`make promote` decides on the challenger.")
    return found


def download(version: Version, folder: Path) -> tuple[Path, Path]:
    """Copy the version's model.onnx and model.int8.onnx to `folder`.

    Raises:
        AlteredModelError: a file is not the one that was registered.
    """
    place = download_uri(f"models:/{version.name}/{version.number}", folder)
    found = (place / "model.onnx", place / "model.int8.onnx")
    for path, tag in zip(found, (ONNX_SHA256, _INT8_SHA256), strict=True):
        if (actual := files.sha256(path)) != version.tags.get(tag):
            raise AlteredModelError(f"{version.name} version {version.number}", path.name, version.tags.get(tag, ""), actual)
    return found


def download_uri(uri: str, folder: Path) -> Path:
    """Copy all of the model that a `models:/` address names; return the folder that holds its files."""
    return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))


def tagged_sha256(uri: str) -> str | None:
    """The SHA-256 of model.onnx by the tag of the version that `models:/name@alias` or `models:/name/number` names.

    None where the address names another thing, or a version without that tag.
    """
    named = re.fullmatch(r"models:/([^/@]+)(?:@([^/]+)|/(\d+))", uri)
    if named is None:
        return None
    (name, alias, number), client = named.groups(), mlflow.MlflowClient()
    found = client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, number)
    return dict(found.tags).get(ONNX_SHA256)


def scoring_app(folder: Path) -> Any:
    """MLflow's scoring server of the model in `folder`, as `download` leaves it, as an ASGI application.

    Raises:
        UnsafeModelError: something other than ONNX Runtime would load it.
    """
    from mlflow import pyfunc
    from mlflow.pyfunc import scoring_server

    check_flavours(folder)
    return scoring_server.init(pyfunc.load_model(str(folder)))


def check_flavours(folder: Path) -> None:
    """Raise UnsafeModelError unless MLflow would give model.onnx to ONNX Runtime, and run no code that comes with it.

    MLflow imports whichever module the file MLmodel names as the loader, and those of other flavours unpickle.
    """
    from mlflow.models import Model

    try:
        flavours = {name: dict(settings) for name, settings in Model.load(str(folder)).flavors.items()}
    except Exception as error:  # MLflow raises what its YAML and its entities raise
        raise UnsafeModelError(f"a file that cannot be read ({type(error).__name__})") from error
    if set(flavours) != {"onnx", "python_function"}:
        raise UnsafeModelError(f"the flavours {', '.join(map(str, flavours)) or 'none'}")
    for flavour, settings in _FLAVOURS.items():
        for key, value in flavours[flavour].items():
            if key not in _VERSIONS and value != settings.get(key):
                raise UnsafeModelError(f"{key} {value!r} of {flavour}")
    if missing := [key for key in ("data", "loader_module") if key not in flavours["python_function"]]:
        raise UnsafeModelError(f"no {missing[0]} of python_function")


def run_exists(version: Version) -> bool:
    """Whether the store holds the run that made the version, undeleted."""
    try:
        return bool(mlflow.get_run(version.run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


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


def tag(version: Version, key: str, value: str) -> None:
    mlflow.MlflowClient().set_model_version_tag(version.name, str(version.number), key, value)


def _log_model(paths: Paths) -> str:
    """Log model.onnx with its signature and an input example, and what belongs to it beside it; return the URI."""
    with interrupts.fragile():
        import mlflow.onnx  # memory and time that training can do without
        import onnx
    from mlflow.models.signature import ModelSignature
    from mlflow.types.schema import Schema, TensorSpec

    proto = onnx.load(paths.onnx)
    (image,), (probabilities,) = proto.graph.input, proto.graph.output
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), _shape(image), image.name)]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), _shape(probabilities), probabilities.name)]),
    )
    info = mlflow.onnx.log_model(
        proto,
        name="model",
        signature=signature,
        input_example={image.name: np.asarray(datasets.open_split(paths, "train").images[:3])},
        pip_requirements=[f"{package}=={version(package)}" for package in ("onnx", "onnxruntime", "numpy")],
        save_as_external_data=False,
        onnx_execution_providers=["CPUExecutionProvider"],
    )
    for file in (paths.int8, paths.card, paths.contract):
        mlflow.MlflowClient().log_model_artifact(info.model_id, str(file))
    return str(info.model_uri)


def _shape(value: Any) -> tuple[int, ...]:
    """The shape of a graph's input or output, -1 where it is free."""
    return tuple(size.dim_value or -1 for size in value.type.tensor_type.shape.dim)


def record_turn(name: str, outcome: str) -> None:
    """Note on the registered model, if there is one, that a turn of retraining ended now."""
    content = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "outcome": outcome}
    try:
        mlflow.MlflowClient().set_registered_model_tag(name, _TURN, json.dumps(content))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


def last_turn(name: str) -> Turn | None:
    """The last turn of retraining, or None."""
    try:
        tags = mlflow.MlflowClient().get_registered_model(name).tags
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    if _TURN not in tags:
        return None
    content = json.loads(tags[_TURN])
    return Turn(datetime.fromisoformat(content["at"]), content["outcome"])
