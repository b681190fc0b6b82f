"""The description of the routes: as an OpenAPI document, and as a page that needs nothing from elsewhere."""

import html
import json
from collections.abc import Iterator
from typing import Any

from pipeline.inference.onnx_model import INPUT, OUTPUT
from pipeline.serving import image_upload
from pipeline.serving.exchange import Response
from pipeline.serving.served_model import ServedModel
from pipeline.serving.service import Limits

Schema = dict[str, Any]

_PAGE = b"text/html; charset=utf-8"
_POLICY = (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
_STYLE = (
    ":root{color-scheme:light dark}a{color:inherit}h2{margin-top:2em;font-size:1.1em}b{display:inline-block;min-width:3em}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:50em;margin:2em auto;padding:0 1em;color:#222;background:#fff}"
    "code,pre{font:14px/1.4 ui-monospace,monospace;background:#f2f2f2;padding:.1em .3em;overflow-wrap:anywhere}"
    "pre{padding:.8em;white-space:pre-wrap}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}code,pre{background:#2a2a2a}}"
)
_ERRORS = {
    "400": "The body is not what the route takes; the message says why.",
    "408": "The body did not arrive in time.",
    "413": "The body or the picture is too large.",
    "415": "Another media type, or a compressed body.",
    "503": "Too many bodies are being received at once.",
}


def openapi(served: ServedModel, limits: Limits) -> dict[str, Any]:
    """The OpenAPI document for the model that is served."""
    description = (
        f"Probabilities of {served.model.classes} classes for images of {served.model.image_shape[0]}x"
        f"{served.model.image_shape[1]} grey pixels, 0 is black. A body has at most {limits.body_bytes:,} bytes. "
        "Every answer names the model's version in X-Model-Version. A refusal has a message that says why."
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": served.name, "version": served.version, "description": description},
        "paths": dict(_paths(served)),
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def page(document: dict[str, Any]) -> Response:
    """The document as HTML."""
    info = document["info"]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{html.escape(info['title'])}</title><style>{_STYLE}</style>"
        f"<h1>{html.escape(info['title'])} <small>version {html.escape(info['version'])}</small></h1>"
        f"<p>{html.escape(info['description'])} <a href=openapi.json>openapi.json</a></p>"
    ]
    for paths, method, operation in _grouped(document["paths"]):
        shown = "<br><b></b> ".join(f"<code>{html.escape(path)}</code>" for path in paths)
        parts.append(f"<h2><b>{method.upper()}</b> {shown}</h2>{_described(operation)}")
    return Response("\n".join(parts).encode(), _PAGE, 200, (_POLICY,))


def _grouped(paths: dict[str, Any]) -> list[tuple[list[str], str, dict[str, Any]]]:
    """The operations with the paths of each: several paths, such as those with and without a version, may do the same."""
    found: list[tuple[list[str], str, dict[str, Any]]] = []
    for path, methods in paths.items():
        for method, operation in methods.items():
            bare = {key: value for key, value in operation.items() if key != "parameters"}
            same = next((known for known, *rest in found if rest == [method, bare]), None)
            if same is None:
                found.append(([path], method, bare))
            else:
                same.append(path)
    return found


def _described(operation: dict[str, Any]) -> str:
    lines = [f"<p>{html.escape(operation['summary'])}</p>"]
    bodies = [("body", operation.get("requestBody", {})), ("answer", operation["responses"]["200"])]
    for title, body in bodies:
        for kind, content in body.get("content", {}).items():
            example = content.get("example")
            shown = f"<pre>{html.escape(json.dumps(example))}</pre>" if example is not None else ""
            lines.append(f"<p>{title}: <code>{html.escape(kind)}</code></p>{shown}")
    return "".join(lines)


def _paths(served: ServedModel) -> Iterator[tuple[str, dict[str, Any]]]:
    height, width = served.model.image_shape
    pixel = {"type": "integer", "minimum": 0, "maximum": 255}
    images = _list(_list(_list(pixel, width, width), height, height), 1)
    rows = _list(_list({"type": "number"}, served.model.classes, served.model.classes))
    invocation = {
        "oneOf": [_object({name: {"oneOf": [images, _object({INPUT: images})]}}) for name in ("inputs", "instances")]
    }
    yield (
        "/invocations",
        _post(
            "MLflow's protocol: images in, probabilities out.",
            {"application/json": (invocation, {"inputs": {INPUT: ["..."]}})},
            (_object({"predictions": _object({OUTPUT: rows})}), {"predictions": {OUTPUT: ["..."]}}),
        ),
    )
    yield from _open_inference(served)
    picture: Schema = {"type": "string", "format": "binary"}
    yield (
        "/predict",
        _post(
            f"A picture of up to {image_upload.MOST_PIXELS:,} pixels: its class, and what was changed to make it fit.",
            {f"image/{kind.lower()}": (picture, None) for kind in image_upload.FORMATS},
            (
                _object({"label": {"type": "string"}, "probability": {"type": "number"}, "probabilities": {"type": "object"}}),
                {
                    "label": served.model.names[0],
                    "probability": 0.99,
                    "probabilities": {},
                    "changes": [],
                    "model_version": "1",
                },
            ),
        ),
    )
    for path in ("/ping", "/health"):
        yield path, _get("Whether the server works. No host name or token is needed.", None)
    yield "/version", _get("The version of MLflow whose protocol this is.", None)
    yield "/metrics", _get("Counters for Prometheus.", None, "text/plain")
    yield "/openapi.json", _get("This description.", {"type": "object"})
    for path in ("/docs", "/"):
        yield path, _get("This description as a page.", None, "text/html")


def _open_inference(served: ServedModel) -> Iterator[tuple[str, dict[str, Any]]]:
    height, width = served.model.image_shape
    tensor = {"name": INPUT, "datatype": "UINT8", "shape": [1, height, width], "data": ["..."]}
    output = {"name": OUTPUT, "datatype": "FP32", "shape": [1, served.model.classes], "data": ["..."]}
    request = _object({"inputs": _list({"type": "object"}, 1, 1)})
    bodies = {
        "application/json": (request, {"inputs": [tensor]}),
        "application/octet-stream": ({"type": "string", "format": "binary"}, None),
    }
    result = {"model_name": served.name, "model_version": served.version, "outputs": [output]}
    ready = "Whether the model is ready."
    for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        yield (
            f"{path}/infer",
            _post(
                "Open Inference Protocol: tensors as JSON, or as bytes after the JSON; "
                "Inference-Header-Content-Length is the length of the JSON.",
                bodies,
                (_object({"outputs": _list({"type": "object"}, 1, 1)}), result),
                path,
            ),
        )
        yield path, _get("Name, versions, input and output of the model.", {"type": "object"}, path=path)
        yield f"{path}/ready", _get(ready, {"type": "object"}, path=path)
    yield "/v2", _get("Name and version of the server.", {"type": "object"})
    for path in ("/v2/health/live", "/v2/health/ready"):
        yield path, _get("Whether the server works. No host name or token is needed.", {"type": "object"})


def _post(summary: str, bodies: dict[str, tuple[Schema, Any]], answer: tuple[Schema, Any], path: str = "") -> dict[str, Any]:
    responses: dict[str, Any] = {code: {"description": text} for code, text in _ERRORS.items()}
    responses["200"] = {"description": "The answer.", "content": {"application/json": _content(*answer)}}
    content = {kind: _content(*body) for kind, body in bodies.items()}
    body = {"required": True, "content": content}
    return {"post": {"summary": summary, "requestBody": body, "responses": responses, "parameters": _parameters(path)}}


def _get(summary: str, schema: Schema | None, kind: str = "application/json", path: str = "") -> dict[str, Any]:
    answer = {"description": "The answer.", "content": {kind: {"schema": schema or {"type": "string"}}}}
    return {"get": {"summary": summary, "responses": {"200": answer}, "parameters": _parameters(path)}}


def _parameters(path: str) -> list[Schema]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in ("name", "version")
        if f"{{{name}}}" in path
    ]


def _content(schema: Schema, example: Any) -> dict[str, Any]:
    return {"schema": schema} if example is None else {"schema": schema, "example": example}


def _object(properties: dict[str, Schema]) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(items: Schema, least: int | None = None, most: int | None = None) -> Schema:
    bounds = {"minItems": least, "maxItems": most}
    return {"type": "array", "items": items, **{key: value for key, value in bounds.items() if value is not None}}
