"""MLflow's scoring protocol: what a client of `mlflow models serve` sends and expects."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pipeline.data.idx import Pixels
from pipeline.inference.onnx_model import INPUT, OUTPUT, Probabilities
from pipeline.serving import pixels
from pipeline.serving.exchange import RefusedRequestError, Request, Response, json_response

_FIELDS = ("inputs", "instances")


def read(request: Request) -> Pixels:
    """The images of a request to /invocations.

    Raises:
        RefusedRequestError: it is not JSON with images of integer pixels under one of MLflow's fields.
    """
    check_media_type(request.headers)
    return pixels.from_json(request.body, _images, request.served.model.image_shape)[0]


def check_media_type(headers: Any) -> None:
    """Raise RefusedRequestError unless the body is JSON in UTF-8."""
    given = headers.get(b"content-type", b"").decode("latin-1")
    if given == "application/json":
        return
    kind, *parameters = (part.strip().lower().replace('"', "") for part in given.split(";"))
    if kind != "application/json" or any(parameter not in ("", "charset=utf-8") for parameter in parameters):
        raise RefusedRequestError(415, "media type", f"expected Content-Type: application/json, found {given or 'none'}")


def answer(probabilities: Probabilities) -> Response:
    return json_response({"predictions": {OUTPUT: probabilities}})


def _images(content: Any) -> Any:
    """Find the images: a list, a list under the input's name, or (instances only) a list of objects with one image each."""
    if not isinstance(content, dict) or len(fields := [field for field in _FIELDS if field in content]) != 1:
        raise RefusedRequestError(400, "content", f'expected {{"inputs": {{"{INPUT}": [...]}}}}, found another content')
    given = content[fields[0]]
    if isinstance(given, dict):
        return given.get(INPUT)
    if fields[0] == "instances" and isinstance(given, list) and given and all(isinstance(row, dict) for row in given):
        return [row.get(INPUT) for row in given]
    return given


def mlflow_version() -> str:
    """The version of MLflow whose protocol this is, which clients may ask for."""
    for package in ("mlflow", "mlflow-skinny"):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return "3"
