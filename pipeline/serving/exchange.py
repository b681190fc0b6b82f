"""A request and its answer, apart from how they travel."""

from collections.abc import Mapping
from typing import NamedTuple

import orjson

from pipeline.serving.served_model import ServedModel

JSON = b"application/json"

Header = tuple[bytes, bytes]


class RefusedRequestError(Exception):
    """A request that gets a 4xx or 503 response; `reason` is its label in the metrics."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class Request(NamedTuple):
    """A request whose access and size were checked, and the model that answers it."""

    served: ServedModel
    path: Mapping[str, str]  # the variable parts of the path
    headers: Mapping[bytes, bytes]
    body: bytes


class Response(NamedTuple):
    body: bytes = b""
    media_type: bytes = JSON
    status: int = 200
    headers: tuple[Header, ...] = ()


def json_response(content: object, status: int = 200) -> Response:
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), JSON, status)


def error_response(error: RefusedRequestError) -> Response:
    """The reason as JSON, under the names that the clients of MLflow (message) and of Open Inference (error) look for."""
    code = "UNAVAILABLE" if error.status == 503 else "BAD_REQUEST"
    return json_response({"error_code": code, "message": str(error), "error": str(error)}, error.status)
