"""What clients of `mlflow models serve` send, and what they get."""

import asyncio
import json
from typing import Any

import numpy as np
import pytest

from pipeline.tracking import connection
from tests.conftest import Repository
from tests.serving.asgi import NAME, Client, asked


def request(pixel: Any = 0, shape: tuple[int, ...] = (1, 28, 28)) -> Any:
    """A request with one image: one pixel is `pixel`, the others are 0."""
    array = np.zeros(shape, object)
    array.ravel()[5] = pixel
    return {"inputs": {"image": array.tolist()}}


FORMS = pytest.mark.parametrize(
    "wrap",
    [
        lambda images: {"inputs": {"image": images}},
        lambda images: {"inputs": images},
        lambda images: {"instances": images},
        lambda images: {"instances": {"image": images}},
        lambda images: {"instances": [{"image": image} for image in images]},
        lambda images: {"inputs": images, "params": {"true": True}},
        lambda images: {"inputs": np.array(images, float).tolist()},
    ],
)


@pytest.fixture(scope="module")
def scoring_server(built: Repository) -> Any:
    """The application that `mlflow models serve` runs, with the registered model."""
    from mlflow import pyfunc
    from mlflow.pyfunc import scoring_server

    connection.connect(built.params, built.paths)
    return scoring_server.init(pyfunc.load_model(f"models:/{NAME}@challenger"))


@FORMS
def test_mlflow_itself_answers_the_same(client: Client, scoring_server: Any, images: Any, wrap: Any) -> None:
    body = json.dumps(wrap(images.tolist())).encode()
    answers = [
        asyncio.run(asked(app, "POST", "/invocations", body, content_type="application/json"))
        for app in (client.app, scoring_server)
    ]

    assert [answer.status for answer in answers] == [200, 200]
    ours, theirs = (answer.content["predictions"]["probabilities"] for answer in answers)
    np.testing.assert_array_equal(np.array(ours, np.float32), np.array(theirs, np.float32))
    assert {answer.headers["content-type"] for answer in answers} == {"application/json"}


@FORMS
def test_every_form_of_mlflows_protocol_is_answered(client: Client, images: Any, expected: Any, wrap: Any) -> None:
    response = client.post("/invocations", wrap(images.tolist()))

    assert response.status == 200, response.body
    assert response.content.keys() == {"predictions"}
    np.testing.assert_allclose(response.content["predictions"]["probabilities"], expected, atol=1e-6)
    assert response.headers["x-model-version"] == client.service.served.version


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", 'application/json;charset="UTF-8"'])
def test_json_is_known_by_its_media_type(client: Client, kind: str) -> None:
    assert client.post("/invocations", request(), Content_Type=kind).status == 200


@pytest.mark.parametrize("kind", ["text/csv", "", "application/json; charset=latin-1", "application/json; version=1"])
def test_another_media_type_is_refused(client: Client, kind: str) -> None:
    response = client.post("/invocations", request(), Content_Type=kind)

    assert response.status == 415
    assert "expected Content-Type: application/json, found" in response.content["message"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (request(shape=(1, 5, 5)), "of shape (n, 28, 28), found shape (1, 5, 5)"),
        (request(256), "found 0 to 256"),
        (request(-1), "found -1 to 0"),
        (request(10**30), "found something else"),
        (request(1e30), "found 0 to 1"),
        (request(3.5), "found numbers with a fraction, or NaN"),
        (request(float("inf")), "found numbers with a fraction, or NaN"),
        (request(True), "true or false"),
        ({"inputs": [[[True] * 28] * 28]}, "true or false"),
        (request(None), "found something else"),
        (request("a"), "found "),
        (request([1, 2]), "found lists of different lengths"),
        ({"inputs": [28] * 28}, "found shape (28,)"),
        ({"inputs": [[28] * 28]}, "found shape (1, 28)"),
        ({"inputs": {"image": 28}}, "found shape ()"),
        ({"inputs": "a" * 28}, "found text"),
        ({"inputs": ["a" * 28] * 28}, "found text"),
        ({"inputs": [["a" * 28] * 28]}, "found text"),
        ({"inputs": [[{str(key): 0 for key in range(28)}] * 28]}, "found something else"),
        ({"inputs": [], "instances": []}, "found another content"),
        ({"dataframe_split": {"columns": ["image"], "data": []}}, "found another content"),
        ({"instances": [{"picture": 1}]}, "found "),
        ({"instances": [{"image": 1}, 2]}, "found "),
    ],
)
def test_what_is_wrong_with_the_images_is_said(client: Client, content: Any, message: str) -> None:
    response = client.post("/invocations", content)

    assert response.status == 400, response.body
    assert message in response.content["message"]


def test_numbers_that_are_whole_are_pixels_however_they_are_written(client: Client) -> None:
    one, other = (client.post("/invocations", request(pixel)) for pixel in (3, 3.0))

    assert one.status == 200
    assert one.body == other.body


def test_the_version_is_that_of_mlflow(client: Client) -> None:
    import mlflow

    assert client.ask("GET", "/version").body.decode() == mlflow.__version__


@pytest.mark.parametrize("path", ["/ping", "/health"])
def test_health_is_answered_as_mlflow_does(client: Client, path: str) -> None:
    response = client.ask("GET", path)

    assert (response.status, response.body, response.headers["content-type"]) == (200, b"\n", "application/json")


def test_a_refusal_is_json_that_both_kinds_of_clients_read(client: Client) -> None:
    content = client.post("/invocations", b"{").content

    assert content["error_code"] == "BAD_REQUEST"
    assert content["message"] == content["error"]
    assert json.dumps(content)
