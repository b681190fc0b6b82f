"""The MLflow model registry: versions of the exported model, and their aliases."""

import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException

from pipeline.core import files, signals
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.tracking import lineage
from pipeline.tracking.connection import retry_on_conflict
from pipeline.tracking.errors import AlteredModelError, NoVersionError
from pipeline.tracking.run_content import ONNX_SHA256

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
LINEAGE, SEED, WITHDRAWN, GIT_TAG = "lineage", "seed", "withdrawn", "release"  # tags of a version

_INT8_SHA256 = "int8_sha256"


class Registration(NamedTuple):
    """A version of the registered model, and the run that created it."""

    run_id: str
    version: int
    created: bool


class Version(NamedTuple):
    """A version of the registered model in the store."""

    name: str
    number: int
    run_id: str
    tags: Mapping[str, str]

    @property
    def onnx_sha256(self) -> str:
        return self.tags.get(ONNX_SHA256, "")


def register(run_id: str, params: Params, paths: Paths) -> Registration:
    """Register the run's model with the alias challenger. If this file has a version already, keep that version."""
    client, name, sha256 = mlflow.MlflowClient(), params.tracking.model, files.sha256(paths.onnx)
    versions = client.search_model_versions(f"run_id = '{run_id}'")
    known = [int(found.version) for found in versions if found.name == name and found.tags.get(ONNX_SHA256) == sha256]
    tags = _tags(sha256, params, paths)
    number = max(known) if known else int(mlflow.register_model(_log_model(paths), name, tags=tags).version)
    for key, value in tags.items() if known else ():  # an older pipeline may have set other tags
        client.set_model_version_tag(name, str(number), key, value)
    retry_on_conflict(lambda: client.set_registered_model_alias(name, CHALLENGER, str(number)))
    return Registration(run_id, number, created=not known)


def _tags(onnx_sha256: str, params: Params, paths: Paths) -> dict[str, str]:
    fingerprint = datasets.read_manifest(paths)["fingerprint"]
    return {
        ONNX_SHA256: onnx_sha256,
        _INT8_SHA256: files.sha256(paths.int8),
        "data_fingerprint": fingerprint,
        LINEAGE: lineage.digest(fingerprint, params, paths),
        SEED: str(params.train.seed),
    }


def aliased(name: str, alias: str) -> Version | None:
    """The version with the alias, or None."""
    try:
        found = mlflow.MlflowClient().get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return Version(name, int(found.version), found.run_id, dict(found.tags))


def numbered(name: str, number: int) -> Version | None:
    """The version with the number, or None."""
    try:
        found = mlflow.MlflowClient().get_model_version(name, str(number))
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return Version(name, int(found.version), found.run_id, dict(found.tags))


def champion(name: str) -> Version:
    """The champion.

    Raises:
        NoVersionError: there is none.
    """
    found = aliased(name, CHAMPION)
    if found is None:
        raise NoVersionError(name, CHAMPION, "`make promote` decides on the challenger.")
    return found


def download(version: Version, folder: Path) -> tuple[Path, Path]:
    """Copy the version's model.onnx and model.int8.onnx to `folder`.

    Raises:
        AlteredModelError: a file was altered after its registration.
    """
    source = download_uri(f"models:/{version.name}/{version.number}", folder)
    paths = (source / "model.onnx", source / "model.int8.onnx")
    for path, tag in zip(paths, (ONNX_SHA256, _INT8_SHA256), strict=True):
        if (actual := files.sha256(path)) != version.tags.get(tag):
            raise AlteredModelError(f"{version.name} version {version.number}", path.name, version.tags.get(tag, ""), actual)
    return paths


def download_uri(uri: str, folder: Path) -> Path:
    """Copy the model that a `models:/` URI names; return the folder with its files."""
    return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))


def tagged_sha256(uri: str) -> str | None:
    """The tag with the SHA-256 of model.onnx, of the version that `models:/name@alias` or `models:/name/number` names.

    None for another URI, and for a version without that tag.
    """
    named = re.fullmatch(r"models:/([^/@]+)(?:@([^/]+)|/(\d+))", uri)
    if named is None:
        return None
    (name, alias, number), client = named.groups(), mlflow.MlflowClient()
    found = client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, number)
    return dict(found.tags).get(ONNX_SHA256)


def run_exists(version: Version) -> bool:
    """Whether the store holds the run that created the version, and the run is not deleted."""
    try:
        return bool(mlflow.get_run(version.run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


def tag(version: Version, key: str, value: str) -> None:
    mlflow.MlflowClient().set_model_version_tag(version.name, str(version.number), key, value)


def _log_model(paths: Paths) -> str:
    """Log model.onnx with its signature, an input example and its companion files; return the URI."""
    with signals.fragile():
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
    for file in (paths.int8, paths.model_card, paths.contract):
        mlflow.MlflowClient().log_model_artifact(info.model_id, str(file))
    return str(info.model_uri)


def _shape(value: Any) -> tuple[int, ...]:
    """The shape of a graph's input or output; -1 for a free dimension."""
    return tuple(size.dim_value or -1 for size in value.type.tensor_type.shape.dim)
