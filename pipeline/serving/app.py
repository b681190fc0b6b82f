"""The routes of the server."""

from collections.abc import Callable
from typing import NamedTuple

from starlette.routing import Route, Router

from pipeline.serving import documentation, metrics, mlflow_protocol, open_inference, pictures
from pipeline.serving.endpoint import Endpoint
from pipeline.serving.exchange import Answer, Asked, RefusedRequestError, json_answer
from pipeline.serving.service import Service

_GET, _POST = ("GET", "HEAD"), ("POST",)
_MODEL = "/v2/models/{name}"


class Entry(NamedTuple):
    """A route: its methods and path, and who answers it how."""

    methods: tuple[str, ...]
    path: str
    handle: Callable[[Asked], Answer]
    health: bool = False
    slow: bool = False


def build(service: Service) -> Router:
    """The ASGI application that answers for `service`."""

    def invocations(asked: Asked) -> Answer:
        return mlflow_protocol.answer(service.predict(asked.served, mlflow_protocol.read(asked)))

    def infer(asked: Asked) -> Answer:
        request = open_inference.read(asked)
        return open_inference.answer(request, service.predict(asked.served, request.images), asked.served)

    def picture(asked: Asked) -> Answer:
        images = pictures.read(asked, service.layout)
        return pictures.answer(images, service.predict(asked.served, images.pixels), asked.served)

    entries = [
        Entry(_POST, "/invocations", invocations),
        Entry(_POST, f"{_MODEL}/infer", infer),
        Entry(_POST, f"{_MODEL}/versions/{{version}}/infer", infer),
        Entry(_POST, "/predict", picture, slow=True),
        Entry(_GET, "/ping", _pong, health=True),
        Entry(_GET, "/health", _pong, health=True),
        Entry(_GET, "/version", lambda _: Answer(mlflow_protocol.mlflow_version().encode())),
        Entry(_GET, "/v2", open_inference.server_metadata),
        Entry(_GET, "/v2/health/live", lambda _: json_answer({"live": True}), health=True),
        Entry(_GET, "/v2/health/ready", lambda _: json_answer({"ready": True}), health=True),
        Entry(_GET, _MODEL, open_inference.model_metadata),
        Entry(_GET, f"{_MODEL}/versions/{{version}}", open_inference.model_metadata),
        Entry(_GET, f"{_MODEL}/ready", open_inference.model_ready),
        Entry(_GET, f"{_MODEL}/versions/{{version}}/ready", open_inference.model_ready),
        Entry(_GET, "/metrics", lambda _: Answer(service.metrics.page(), metrics.MEDIA_TYPE)),
        Entry(_GET, "/openapi.json", lambda asked: json_answer(documentation.openapi(asked.served, service.limits))),
        Entry(_GET, "/docs", lambda asked: documentation.page(documentation.openapi(asked.served, service.limits))),
        Entry(_GET, "/", lambda asked: documentation.page(documentation.openapi(asked.served, service.limits))),
    ]
    routes = [Route(entry.path, _endpoint(service, entry)) for entry in entries]
    return Router(routes, redirect_slashes=False, default=_endpoint(service, Entry((), "other", _unknown)))


def _endpoint(service: Service, entry: Entry) -> Endpoint:
    return Endpoint(service, entry.path, entry.methods, entry.handle, health=entry.health, slow=entry.slow)


def _pong(_: Asked) -> Answer:
    return Answer(b"\n")


def _unknown(_: Asked) -> Answer:
    raise RefusedRequestError(404, "path", "expected one of the paths that /docs lists, found another")
