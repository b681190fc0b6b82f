"""The MLflow model registry: versions of the exported model, and the aliases that name the ones that count."""

from importlib.metadata import version
from typing import Any, NamedTuple

import mlflow
import numpy as np

from pipeline.core import datasets, files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.core.tracking import ONNX_SHA256

CHALLENGER = "challenger"


class Registration(NamedTuple):
    """A version of the registered model, and the run that made it."""

    run_id: str
    version: int
    created: bool


def register(run_id: str, params: Params, paths: Paths) -> Registration:
    """Give the run's model a version and the alias challenger, unless this very file has one."""
    client, name, sha256 = mlflow.MlflowClient(), params.tracking.model, files.sha256(paths.onnx)
    versions = client.search_model_versions(f"run_id = '{run_id}'")
    known = [int(found.version) for found in versions if found.name == name and found.tags.get(ONNX_SHA256) == sha256]
    if known:
        number = max(known)
    else:
        tags = {ONNX_SHA256: sha256, "data_fingerprint": files.read_json(paths.manifest)["fingerprint"]}
        number = int(mlflow.register_model(_log_model(paths), name, tags=tags).version)
    client.set_registered_model_alias(name, CHALLENGER, str(number))
    return Registration(run_id, number, created=not known)


def _log_model(paths: Paths) -> str:
    """Log model.onnx with its signature and three training images as an example; return its URI."""
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
    return str(info.model_uri)


def _shape(value: Any) -> tuple[int, ...]:
    """The shape of a graph's input or output, -1 where it is free."""
    return tuple(size.dim_value or -1 for size in value.type.tensor_type.shape.dim)
