"""The Open Inference Protocol, version 2, which Triton, KServe and MLServer speak: JSON, and tensors as bytes.

https://github.com/kserve/open-inference-protocol and Triton's binary tensor data extension.
"""

from math import prod
from typing import Any, NamedTuple

import numpy as np
import orjson

from pipeline.data.idx import Pixels
from pipeline.inference.onnx_model import INPUT, OUTPUT, Probabilities
from pipeline.serving import pixels
from pipeline.serving.exchange import RefusedRequestError, Request, Response, json_response
from pipeline.serving.mlflow_protocol import check_media_type
from pipeline.serving.served_model import ServedModel

HEADER_LENGTH = b"inference-header-content-length"

_BYTES = b"application/octet-stream"


class InferRequest(NamedTuple):
    """The images of a request, and how it wants its answer."""

    images: Pixels
    id: str | None
    binary: bool  # whether the probabilities are sent as bytes


def server_metadata(request: Request) -> Response:
    served = request.served
    return json_response({"name": served.name, "version": served.version, "extensions": ["binary_tensor_data"]})


def model_metadata(request: Request) -> Response:
    served = named(request)
    height, width = served.model.image_shape
    return json_response(
        {
            "name": served.name,
            "versions": [served.version],
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, height, width]}],
            "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, served.model.classes]}],
            "parameters": {"classes": served.model.names, "sha256": served.sha256},
        }
    )


def model_ready(request: Request) -> Response:
    served = named(request)
    return json_response({"name": served.name, "ready": True})


def named(request: Request) -> ServedModel:
    """The served model, if it is the one that the path names. Raises RefusedRequestError otherwise."""
    served, name, version = request.served, request.path["name"], request.path.get("version", request.served.version)
    if (name, version) != (served.name, served.version):
        expected, found = f"{served.name} version {served.version}", f"{name} version {version}"
        raise RefusedRequestError(404, "model", f"expected the model {expected}, which is served, found {found}")
    return served


def read(request: Request) -> InferRequest:
    """Read a request to /infer.

    Raises:
        RefusedRequestError: it is not what the protocol or the model takes.
    """
    shape = named(request).model.image_shape
    if (length := request.headers.get(HEADER_LENGTH)) is not None:
        return _binary(request.body, _number(length, len(request.body)), shape)
    if b"content-type" in request.headers:  # Triton's client sends none
        check_media_type(request.headers)
    images, content = pixels.from_json(request.body, lambda content: _rows(content, shape), shape)
    if len(images) != (count := content["inputs"][0]["shape"][0]):
        raise RefusedRequestError(400, "shape", f"expected {count} images, as the shape says, found {len(images)}")
    return InferRequest(images, *_wanted(content))


def answer(request: InferRequest, probabilities: Probabilities, served: ServedModel) -> Response:
    output: dict[str, Any] = {"name": OUTPUT, "datatype": "FP32", "shape": probabilities.shape}
    head: dict[str, Any] = {"model_name": served.name, "model_version": served.version, "outputs": [output]}
    if request.id is not None:
        head["id"] = request.id
    if not request.binary:
        output["data"] = probabilities.ravel()
        return json_response(head)
    content = probabilities.astype("<f4", copy=False).tobytes()
    output["parameters"] = {"binary_data_size": len(content)}
    described = orjson.dumps(head)
    return Response(described + content, _BYTES, 200, ((HEADER_LENGTH, str(len(described)).encode()),))


def _number(length: bytes, most: int) -> int:
    if not length.isdigit() or len(length) > 12 or int(length) > most:
        raise RefusedRequestError(
            400, "tensor", f"expected Inference-Header-Content-Length of 0 to {most}, found {length.decode('latin-1')}"
        )
    return int(length)


def _binary(body: bytes, length: int, shape: tuple[int, int]) -> InferRequest:
    try:
        content = orjson.loads(body[:length])
    except ValueError as error:
        raise RefusedRequestError(400, "json", f"expected JSON, found {error}") from error
    tensor = _input(content, shape)
    size = _mapping(tensor.get("parameters")).get("binary_data_size")
    if size is None:
        raise RefusedRequestError(400, "tensor", "expected parameters.binary_data_size of the input, found none")
    expected, found = prod(tensor["shape"]), len(body) - length
    if not expected == size == found:
        raise RefusedRequestError(400, "tensor", f"expected {expected} bytes of pixels, found {size} announced, {found} sent")
    return InferRequest(np.frombuffer(body, np.uint8, offset=length).reshape(-1, *shape), *_wanted(content))


def _rows(content: Any, shape: tuple[int, int]) -> Any:
    """The data of the input, which may be nested as the tensor is, or flat, as images of rows."""
    tensor = _input(content, shape)
    data = tensor.get("data")
    if not isinstance(data, list) or not data or isinstance(data[0], list):
        return data
    if len(data) != prod(tensor["shape"]):
        expected = f"{prod(tensor['shape'])} numbers, as the shape {tensor['shape']} says"
        raise RefusedRequestError(400, "tensor", f"expected {expected}, found {len(data)}")
    height, width = shape
    rows = [data[start : start + width] for start in range(0, len(data), width)]
    return [rows[start : start + height] for start in range(0, len(rows), height)]


def _input(content: Any, shape: tuple[int, int]) -> dict[str, Any]:
    """The description of the only input, checked but for its data."""
    inputs = _mapping(content).get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or _mapping(inputs[0]).get("name") != INPUT:
        raise RefusedRequestError(
            400, "content", f'expected {{"inputs": [{{"name": "{INPUT}", ...}}]}}, found another content'
        )
    tensor: dict[str, Any] = inputs[0]
    if (kind := tensor.get("datatype")) != "UINT8":
        raise RefusedRequestError(400, "tensor", f"expected the datatype UINT8, found {kind}")
    sizes = tensor.get("shape")
    whole = isinstance(sizes, list) and all(type(size) is int for size in sizes)
    if not isinstance(sizes, list) or not whole or len(sizes) != 3 or tuple(sizes[1:]) != shape or sizes[0] < 1:
        raise RefusedRequestError(400, "shape", f"expected the shape [n, {shape[0]}, {shape[1]}], found {sizes}")
    return tensor


def _wanted(content: Any) -> tuple[str | None, bool]:
    """The id of the request, and whether it wants bytes."""
    outputs, binary = content.get("outputs"), _mapping(content.get("parameters")).get("binary_data_output") is True
    if outputs:
        if not isinstance(outputs, list) or len(outputs) != 1 or _mapping(outputs[0]).get("name") != OUTPUT:
            raise RefusedRequestError(400, "content", f"expected the output {OUTPUT} alone, found another")
        parameters = _mapping(outputs[0].get("parameters"))
        if "classification" in parameters:
            raise RefusedRequestError(400, "content", "expected to send probabilities, found the parameter classification")
        binary = bool(parameters.get("binary_data", binary))
    given = content.get("id")
    return given if isinstance(given, str) else None, binary


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
