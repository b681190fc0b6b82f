"""The page on which people label images, and the HTTP interface that it uses. Other programs can use it, too:

- `GET /items`: the names of the `classes`; the `items` in the order in which to label them, each with its `id`, and its
  `answers` so far; and the progress. No predictions, so that they do not bias.
- `GET /images/ID.png`: an image.
- `GET /predictions/ID`: what the champion says: `label`, `probability` and `probabilities` by class.
- `POST /answers`, `{"id": ID, "kind": "label", "label": NAME}` or `{"id": ID, "kind": "other" | "skip" | "undo"}`: keep an
  answer. The response is the progress, and comes when the answer is on the disk.
- `POST /finish`, `{}`: make a data set of the answers. The response says what was written; then the server ends.

Refused requests get a 4xx response with a `message`. Every request must be for 127.0.0.1 or localhost, and from no page of
another site.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router

from pipeline.core.errors import PipelineError
from pipeline.monitoring.answers import Answer, Answers
from pipeline.monitoring.selected import Selection
from pipeline.serving import access
from pipeline.serving.exchange import RefusedRequestError

Finish = Callable[[Selection, Answers], dict[str, Any]]
Respond = Callable[[Request], Awaitable[Response]]

_WEB = Path(__file__).with_name("web")
_TYPES = {"label.html": "text/html", "label.css": "text/css", "label.js": "text/javascript"}
_MOST_BYTES = 10_000  # of an answer
_HEADERS = {
    "content-security-policy": "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class LabelApp:
    """What the routes share: the selection, the answers, and how to finish and to end the server."""

    def __init__(self, selection: Selection, answers: Answers, finish: Finish, stop: Callable[[], None]) -> None:
        self._selection, self._answers, self._finish, self._stop = selection, answers, finish, stop
        self._index = {id_: index for index, id_ in enumerate(selection.ids)}
        self._finishing = False

    def build(self) -> Router:
        """The ASGI application."""
        routes = [
            _route("/", "GET", _file("label.html")),
            _route("/label.css", "GET", _file("label.css")),
            _route("/label.js", "GET", _file("label.js")),
            _route("/favicon.ico", "GET", _nothing),
            _route("/items", "GET", self._items),
            _route("/images/{id}.png", "GET", self._image),
            _route("/predictions/{id}", "GET", self._prediction),
            _route("/answers", "POST", self._answer),
            _route("/finish", "POST", self._finished),
        ]
        return Router(routes, redirect_slashes=False)

    async def _items(self, _: Request) -> Response:
        items = [{"id": id_, "answers": [each._asdict() for each in self._answers.of(id_)]} for id_ in self._selection.ids]
        return JSONResponse({"classes": self._selection.classes, "items": items, **self._answers.progress()})

    async def _image(self, request: Request) -> Response:
        out = BytesIO()
        Image.fromarray(self._selection.images[self._found(request)]).save(out, "PNG")
        return Response(out.getvalue(), media_type="image/png", headers={"cache-control": "private, max-age=3600"})

    async def _prediction(self, request: Request) -> Response:
        row, names = self._selection.probabilities[self._found(request)], self._selection.classes
        probabilities = {name: float(value) for name, value in zip(names, row, strict=True)}
        best = max(probabilities, key=probabilities.__getitem__)
        return JSONResponse({"label": best, "probability": probabilities[best], "probabilities": probabilities})

    def _found(self, request: Request) -> int:
        id_ = request.path_params["id"]
        if id_ not in self._index:
            raise RefusedRequestError(404, "image", f"expected the id of a selected image, found {id_}")
        return self._index[id_]

    async def _answer(self, request: Request) -> Response:
        content = await _body(request)
        self._check_open()
        try:
            answer = Answer(str(content.get("kind")), content.get("label"))
            self._answers.add(str(content.get("id")), answer)
        except (ValueError, TypeError) as error:
            raise RefusedRequestError(400, "answer", str(error)) from error
        except OSError as error:
            found = f"expected to write the answer, found: {error.strerror}. It is not saved; earlier answers are"
            raise RefusedRequestError(507, "disk", found) from error
        return JSONResponse(self._answers.progress())

    async def _finished(self, request: Request) -> Response:
        await _body(request)
        self._check_open()
        self._finishing = True
        try:
            written = await asyncio.to_thread(self._finish, self._selection, self._answers)
        except PipelineError as error:
            self._finishing = False
            raise RefusedRequestError(409, "finish", str(error)) from error
        return JSONResponse(written, background=BackgroundTask(self._stop))

    def _check_open(self) -> None:
        if self._finishing:
            raise RefusedRequestError(409, "finish", "expected an unfinished selection, found one that is being finished")


def _file(name: str) -> Respond:
    content = (_WEB / name).read_bytes()

    async def respond(_: Request) -> Response:
        return Response(content, media_type=_TYPES[name])

    return respond


async def _nothing(_: Request) -> Response:
    return Response(status_code=204)


async def _body(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise RefusedRequestError(415, "type", "expected Content-Type: application/json, found another")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BYTES:
            raise RefusedRequestError(413, "size", f"expected at most {_MOST_BYTES:,} bytes, found more")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedRequestError(400, "json", "expected JSON, found something else") from error
    if not isinstance(content, dict):
        raise RefusedRequestError(400, "json", "expected an object, found other JSON")
    return content


def _route(path: str, method: str, respond: Respond) -> Route:
    async def checked(request: Request) -> Response:
        try:
            access.check_origin(request.headers.get("host", "").encode("latin-1"), _origin(request))
            response = await respond(request)
        except RefusedRequestError as error:
            response = JSONResponse({"message": str(error)}, error.status)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return Route(path, checked, methods=[method])


def _origin(request: Request) -> bytes | None:
    found = request.headers.get("origin")
    return None if found is None else found.encode("latin-1")
