"""What all routes have in common: access, bounds, errors, the version, the counters, and their description."""

import asyncio
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from pipeline.serving import image_upload, metrics
from pipeline.serving.access import Access
from pipeline.serving.service import Limits
from tests.browser import chromium
from tests.conftest import Repository
from tests.serving.asgi import NAME, Client, opened
from tests.serving.test_mlflow_protocol import request

HEALTH = ("/ping", "/health", "/v2/health/live", "/v2/health/ready")


def counted(client: Client, counter: str, /, **labels: str) -> float:
    """The value of a counter on the page of metrics."""
    page = client.ask("GET", "/metrics").body.decode()
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    return sum(each.value for each in samples if each.name == counter and labels.items() <= each.labels.items())


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}])
def test_requests_of_other_sites_are_refused_everywhere_but_for_health(client: Client, headers: dict[str, str]) -> None:
    described = client.ask("GET", "/openapi.json").content["paths"]
    asked = [(method.upper(), path) for path, methods in described.items() for method in methods]
    for method, path in [*asked, ("GET", "/none"), ("OPTIONS", "/invocations")]:
        response = client.ask(method, path.replace("{name}", NAME), **headers)

        assert response.status == (200 if path in HEALTH else 403), path
        assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("headers", [{"Host": "["}, {"Origin": "http://["}])
def test_an_invalid_host_or_origin_is_the_clients_error(client: Client, headers: dict[str, str]) -> None:
    response = client.post("/invocations", request(), **headers)

    assert response.status == 400
    assert "expected an address, found" in response.content["message"]


def test_a_token_is_asked_for_everywhere_but_for_health(built: Repository) -> None:
    client = Client(opened(built.paths.onnx), access=Access(("model.example",), "of sixteen letters"))
    host = {"Host": "model.example"}
    for path in (*HEALTH, "/metrics", "/docs", "/openapi.json", "/v2", "/none"):
        assert client.ask("GET", path, **host).status == (200 if path in HEALTH else 401), path

    assert client.ask("GET", "/metrics", **host, Authorization="Bearer of sixteen letters").status == 200
    for wrong in ("Bearer", "Bearer of sixteen letter", "of sixteen letters", "Bearer é", "Basic of sixteen letters"):
        assert client.ask("GET", "/metrics", **host, Authorization=wrong).status == 401, wrong


@pytest.mark.parametrize(("method", "path", "allow"), [("GET", "/invocations", "POST"), ("POST", "/ping", "GET, HEAD")])
def test_another_method_is_refused(client: Client, method: str, path: str, allow: str) -> None:
    response = client.ask(method, path)

    assert (response.status, response.headers["allow"]) == (405, allow)


@pytest.mark.parametrize("path", ["/none", "/invocations/", "/v2/", "/../etc/passwd", "/v2/models/a/b/c"])
def test_another_path_is_not_found(client: Client, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        response = client.ask(method, path)
        assert response.status == 404
        assert "/docs lists" in response.content["message"]


def test_every_answer_names_the_version(client: Client) -> None:
    asked = [("GET", "/ping"), ("GET", "/none"), ("PUT", "/ping"), ("POST", "/invocations"), ("POST", "/predict")]
    for method, path in asked:
        assert client.ask(method, path).headers["x-model-version"] == client.service.served.version, path


def test_a_compressed_body_is_refused(client: Client) -> None:
    response = client.post("/invocations", b"", Content_Encoding="gzip")

    assert response.status == 415
    assert "expected a body without Content-Encoding, found gzip" in response.content["message"]


def test_a_body_that_is_announced_as_too_long_is_refused_before_it_is_read(client: Client) -> None:
    response = client.ask("POST", "/predict", [], Content_Length="10000001")

    assert response.status == 413
    assert "expected at most 10,000,000 bytes (serve.max_bytes), found more" in response.content["message"]


def test_a_body_without_announced_length_is_read_up_to_the_limit(built: Repository) -> None:
    client = Client(opened(built.paths.onnx), limits=Limits(10))

    assert client.ask("POST", "/invocations", [b" " * 5, b" " * 6, b"..."]).status == 413
    assert client.service.held == 0


def test_a_body_that_does_not_end_is_given_up(built: Repository) -> None:
    client = Client(opened(built.paths.onnx), limits=Limits(10_000, body_seconds=0.05))

    response = client.ask("POST", "/invocations", [b"..."])

    assert response.status == 408
    assert "expected the body within 0.05 s" in response.content["message"]
    assert client.service.held == 0


def test_many_bodies_at_once_do_not_fill_the_memory(built: Repository) -> None:
    client = Client(opened(built.paths.onnx), limits=Limits(10_000, held_bytes=15_000, body_seconds=0.2))

    async def both() -> list[int]:
        asked = [client.asked("POST", "/invocations", [b" " * 9_000, b"..."]) for _ in range(2)]
        return [response.status for response in await asyncio.gather(*asked)]

    assert sorted(asyncio.run(both())) == [408, 503]
    assert client.service.held == 0


def picture(images: Any, kind: str = "PNG", scale: int = 5) -> bytes:
    """The first image as a file: dark ink on white, larger."""
    file = io.BytesIO()
    Image.fromarray(255 - images[0]).resize((28 * scale, 28 * scale)).convert("L").save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", image_upload.FORMATS)
def test_a_picture_gets_its_class(client: Client, images: Any, expected: Any, kind: str) -> None:
    response = client.ask("POST", "/predict", picture(images, kind), Content_Type=f"image/{kind.lower()}")

    assert response.status == 200, response.body
    content = response.content
    assert content["label"] == str(expected[0].argmax())
    assert content["probability"] == max(content["probabilities"].values())
    assert content["model_version"] == response.headers["x-model-version"]
    assert any("resized from 140x140 to 28x28" in change for change in content["changes"])


def test_a_model_of_other_images_gets_a_picture_as_predict_brings_it_to_size(built: Repository, images: Any) -> None:
    client = Client(opened(built.paths.onnx), layout="as_is")  # predict.layout

    response = client.ask("POST", "/predict", picture(images))

    assert response.content["changes"] == ["resized from 140x140 to 28x28"]


def test_the_layout_of_pictures_is_that_of_the_contract_unless_one_is_given(built: Repository, images: Any) -> None:
    served = opened(built.paths.onnx)
    unknown = Client(served, layout=None).ask("POST", "/predict", picture(images))
    stated = Client(replace(served, layout="as_is"), layout=None).ask("POST", "/predict", picture(images))
    given = Client(replace(served, layout="as_is"), layout="mnist").ask("POST", "/predict", picture(images))

    assert (unknown.status, stated.status, given.status) == (501, 200, 200)
    assert "expected a model whose contract.json states its layout" in unknown.body.decode()
    assert stated.content["changes"] == ["resized from 140x140 to 28x28"]
    assert "centred by mass" in given.content["changes"][-1]


def test_a_picture_that_shows_nothing_or_is_none_is_refused(client: Client, images: Any) -> None:
    gif, cut = picture(images, "GIF"), picture(images)[:60]
    blank = io.BytesIO()
    Image.new("L", (50, 50), 255).save(blank, "PNG")
    for body in (b"", b"no picture", gif, cut, blank.getvalue()):
        response = client.ask("POST", "/predict", body)
        assert response.status == 400, body[:20]
        assert "expected " in response.content["message"]


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(client: Client) -> None:
    bomb = io.BytesIO()
    Image.new("1", (5001, 5000)).save(bomb, "PNG")
    assert len(bomb.getvalue()) < 20_000

    response = client.ask("POST", "/predict", bomb.getvalue())

    assert response.status == 413
    assert response.content["message"] == "expected at most 25,000,000 pixels, found 5001x5000"


def test_the_counters_tell_what_was_asked(built: Repository, images: Any, expected: Any) -> None:
    client = Client(opened(built.paths.onnx))
    client.post("/invocations", {"inputs": images.tolist()})
    client.post("/invocations", {"inputs": images[:1].tolist()})
    client.post("/invocations", b"{")
    client.ask("POST", "/predict", picture(images))

    assert counted(client, "serve_requests_total", route="/invocations", status="200") == 2
    assert counted(client, "serve_requests_total", route="/invocations", status="400") == 1
    assert counted(client, "serve_refusals_total", reason="json") == 1
    assert counted(client, "serve_images_total") == 5
    assert counted(client, "serve_batch_images_count") == 3
    assert counted(client, "serve_request_seconds_count", route="/invocations") == 3
    assert counted(client, "serve_confidence_count") == 5
    labels, counts = np.unique([*expected.argmax(axis=1), expected[0].argmax(), expected[0].argmax()], return_counts=True)
    assert [counted(client, "serve_predictions_total", label=str(label)) for label in labels] == counts.tolist()
    served = client.service.served
    assert counted(client, "serve_model_info", name=NAME, version=served.version, sha256=served.sha256) == 1


def test_many_values_are_observed_as_one_by_one() -> None:
    from prometheus_client import CollectorRegistry, Histogram, generate_latest

    values = np.array([0.1, 0.25, 0.5, 0.5001, 0.9, 1.0, 2.0], np.float32)
    found = []
    for several in (True, False):
        registry = CollectorRegistry()
        histogram = Histogram("a", "b", buckets=(0.25, 0.5, 1.0), registry=registry)
        if several:
            metrics.observe_all(histogram, values)
        else:
            for value in values:
                histogram.observe(float(value))
        (family,) = text_string_to_metric_families(generate_latest(registry).decode())
        found.append([(sample.name, sample.labels, round(sample.value, 6)) for sample in family.samples])

    assert found[0] == found[1]


def test_every_route_is_described(client: Client) -> None:
    document = client.ask("GET", "/openapi.json").content
    routes = {route.path for route in client.app.routes}

    assert set(document["paths"]) == routes
    for path, methods in document["paths"].items():
        (method,) = methods
        assert client.ask("TRACE", path).headers["allow"].startswith(method.upper())
        named = {parameter["name"] for parameter in methods[method]["parameters"]}
        assert named == set(re.findall(r"{(\w+)}", path))


def test_the_page_of_the_routes_needs_nothing_from_elsewhere(client: Client) -> None:
    response = client.ask("GET", "/docs")
    page = response.body.decode()

    assert response.headers["content-security-policy"].startswith("default-src 'none'")
    assert "://" not in page
    assert "src=" not in page
    assert "/v2/models/{name}/infer" in page
    assert f"version {client.service.served.version}" in page


def test_the_page_names_each_route_once_and_describes_equal_ones_together(client: Client) -> None:
    page, described = client.ask("GET", "/docs").body.decode(), client.ask("GET", "/openapi.json").content["paths"]

    assert sorted(re.findall(r"<code>(/[^<]*)</code>", page)) == sorted(described)
    assert page.count("Open Inference Protocol: ") == 1
    assert "<code>/v2/models/{name}/infer</code><br><b></b> <code>/v2/models/{name}/versions/{version}/infer</code>" in page


@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_on_the_page_is_cut_at_the_right(width: int, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "docs.html"
    file.write_bytes(client.ask("GET", "/docs").body)
    with chromium(1200, 800) as browser:
        screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.get(file.as_uri())
        wider = (
            "return [...document.querySelectorAll('html, pre, h2')].filter((box) => box.scrollWidth > box.clientWidth).length"
        )

        assert browser.execute_script("return document.querySelectorAll('pre').length") > 3
        assert browser.execute_script(wider) == 0
