"""The routes of the server."""

from collections.abc import Callable
from typing import NamedTuple

from starlette.routing import Route, Router

from pipeline.serving import documentation, image_upload, metrics, mlflow_protocol, open_inference
from pipeline.serving.endpoint import Endpoint
from pipeline.serving.exchange import RefusedRequestError, Request, Response, json_response
from pipeline.serving.service import Service

_GET, _POST = ("GET", "HEAD"), ("POST",)
_MODEL = "/v2/models/{name}"


class Entry(NamedTuple):
    """A route: its methods and path, and who answers it how."""

    methods: tuple[str, ...]
    path: str
    handle: Callable[[Request], Response]
    health: bool = False
    slow: bool = False


def build(service: Service) -> Router:
    """The ASGI application that answers for `service`."""

    def invocations(request: Request) -> Response:
        return mlflow_protocol.answer(service.predict(request.served, mlflow_protocol.read(request)))

    def infer(request: Request) -> Response:
        inference = open_inference.read(request)
        return open_inference.answer(inference, service.predict(request.served, inference.images), request.served)

    def picture(request: Request) -> Response:
        images = image_upload.read(request, service.layout(request.served))
        return image_upload.answer(images, service.predict(request.served, images.pixels), request.served)

    entries = [
        Entry(_POST, "/invocations", invocations),
        Entry(_POST, f"{_MODEL}/infer", infer),
        Entry(_POST, f"{_MODEL}/versions/{{version}}/infer", infer),
        Entry(_POST, "/predict", picture, slow=True),
        Entry(_GET, "/ping", _pong, health=True),
        Entry(_GET, "/health", _pong, health=True),
        Entry(_GET, "/version", lambda _: Response(mlflow_protocol.mlflow_version().encode())),
        Entry(_GET, "/v2", open_inference.server_metadata),
        Entry(_GET, "/v2/health/live", lambda _: json_response({"live": True}), health=True),
        Entry(_GET, "/v2/health/ready", lambda _: json_response({"ready": True}), health=True),
        Entry(_GET, _MODEL, open_inference.model_metadata),
        Entry(_GET, f"{_MODEL}/versions/{{version}}", open_inference.model_metadata),
        Entry(_GET, f"{_MODEL}/ready", open_inference.model_ready),
        Entry(_GET, f"{_MODEL}/versions/{{version}}/ready", open_inference.model_ready),
        Entry(_GET, "/metrics", lambda _: Response(service.metrics.page(), metrics.MEDIA_TYPE)),
        Entry(_GET, "/openapi.json", lambda request: json_response(documentation.openapi(request.served, service.limits))),
        Entry(_GET, "/docs", lambda request: documentation.page(documentation.openapi(request.served, service.limits))),
        Entry(_GET, "/", lambda request: documentation.page(documentation.openapi(request.served, service.limits))),
    ]
    routes = [Route(entry.path, _endpoint(service, entry)) for entry in entries]
    return Router(routes, redirect_slashes=False, default=_endpoint(service, Entry((), "other", _unknown)))


def _endpoint(service: Service, entry: Entry) -> Endpoint:
    return Endpoint(service, entry.path, entry.methods, entry.handle, health=entry.health, slow=entry.slow)


def _pong(_: Request) -> Response:
    return Response(b"\n")


def _unknown(_: Request) -> Response:
    raise RefusedRequestError(404, "path", "expected one of the paths that /docs lists, found another")
