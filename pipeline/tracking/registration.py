"""Register the model of this tree, and look it up by its hashes: nobody can move those, unlike an alias."""

import os
from importlib.metadata import version as installed
from typing import Any, NamedTuple

import mlflow
import numpy as np

from pipeline.core import files, signals
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.tracking import descriptions, lineage, registry, runs
from pipeline.tracking.connection import retry_on_conflict
from pipeline.tracking.errors import UnregisteredTreeError
from pipeline.tracking.registry import Hashes, Version
from pipeline.tracking.run_content import ONNX_SHA256


class Registration(NamedTuple):
    """The version of the model of this tree."""

    version: Version
    created: bool


def hashes(paths: Paths) -> Hashes:
    """The hashes of the model of this tree.

    Raises:
        MissingInputError: there is none.
    """
    return Hashes(*(files.sha256(path) for path in paths.models().values()))


def register(params: Params, paths: Paths) -> Registration:
    """Complete the run of this tree, and register its model, unless the store holds a complete version of it already.

    Raises:
        TrackingError: the store does not answer.
    """
    with runs.completed_run(params, paths) as run_id:
        known = registry.best(params.tracking.model, hashes(paths))
        if known is None or not known.complete:
            registered = Registration(_add_version(params, paths), created=True)
        else:
            registered = Registration(_with_current_tags(known.version, params, paths), created=False)
        descriptions.describe_run(run_id, registered.version, params, paths)
        descriptions.describe_version(registered.version, paths)
        return registered


def _with_current_tags(version: Version, params: Params, paths: Paths) -> Version:
    """Set the tags of the version that an older pipeline may have set otherwise."""
    tags = _tags(params, paths)
    for key, value in tags.items():
        if version.tags.get(key) != value:
            registry.tag(version, key, value)
    return version._replace(tags={**version.tags, **tags})


def ensure(params: Params, paths: Paths) -> Version:
    """The version of the model of this tree. Register it if the store lacks it, or lost its files or its run.

    So it does not matter whether DVC ran the stage register here, or restored its output.

    Raises:
        UnregisteredTreeError: it would have to be registered, but the files of the tree do not belong together.
    """
    known = registry.best(params.tracking.model, hashes(paths))
    if known and known.complete:
        return known.version
    _check_tree(params, paths)
    return register(params, paths).version


def record(version: Version, params: Params, paths: Paths) -> None:
    """Write data/registration.json."""
    content = {"run_id": version.run_id, "version": version.number, **_identity(params, paths)}
    files.write_json(paths.registration, content)


def show(version: Version) -> str:
    """Give the version the alias challenger; return what it is now. The champion and the models of experiments get no alias.

    The alias is for people. No command decides by it, because anybody can move it.
    """
    if experiment := os.environ.get("DVC_EXP_NAME"):
        return f"registered, of experiment {experiment}"
    champion = registry.aliased(version.name, registry.CHAMPION)
    if champion and champion.number == version.number:
        return "champion already"
    client = mlflow.MlflowClient()
    retry_on_conflict(lambda: client.set_registered_model_alias(version.name, registry.CHALLENGER, str(version.number)))
    return registry.CHALLENGER


def _check_tree(params: Params, paths: Paths) -> None:
    """Refuse a tree whose model, data, parameters or code changed after its stage register."""
    recorded, now = files.read_json(paths.registration), _identity(params, paths)
    for key, value in now.items():
        if recorded.get(key) != value:
            found = str(recorded.get(key, "none"))
            raise UnregisteredTreeError(paths.registration, f"{key} {value[:12]}, as in this tree", f"{found[:12]}")


def _identity(params: Params, paths: Paths) -> dict[str, str]:
    model, fingerprint = hashes(paths), datasets.read_manifest(paths)["fingerprint"]
    return {
        "model": params.tracking.model,
        ONNX_SHA256: model.onnx,
        registry.INT8_SHA256: model.int8,
        registry.LINEAGE: lineage.digest(fingerprint, params, paths),
    }


def _tags(params: Params, paths: Paths) -> dict[str, str]:
    identity, fingerprint = _identity(params, paths), datasets.read_manifest(paths)["fingerprint"]
    del identity["model"]
    if not identity[registry.INT8_SHA256]:
        del identity[registry.INT8_SHA256]
    return {**identity, "data_fingerprint": fingerprint, registry.SEED: str(params.train.seed)}


def _add_version(params: Params, paths: Paths) -> Version:
    """Register the model as a new version of the active run."""
    tags = _tags(params, paths)
    added = mlflow.register_model(_log_model(paths), params.tracking.model, tags=tags)
    return Version(added.name, int(added.version), added.run_id, tags)


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
        pip_requirements=[f"{package}=={installed(package)}" for package in ("onnx", "onnxruntime", "numpy")],
        save_as_external_data=False,
        onnx_execution_providers=["CPUExecutionProvider"],
    )
    _, *companions = paths.models().values()
    for file in (*companions, paths.model_card, paths.contract):
        mlflow.MlflowClient().log_model_artifact(info.model_id, str(file))
    return str(info.model_uri)


def _shape(value: Any) -> tuple[int, ...]:
    """The shape of a graph's input or output; -1 for a free dimension."""
    return tuple(size.dim_value or -1 for size in value.type.tensor_type.shape.dim)
