"""The Open Inference Protocol: its JSON and its bytes, without a client's help."""

import json
from typing import Any

import numpy as np
import pytest

from tests.serving.asgi import NAME, Client

INFER = f"/v2/models/{NAME}/infer"


def tensor(images: Any, **changes: Any) -> dict[str, Any]:
    described = {"name": "image", "datatype": "UINT8", "shape": list(images.shape), "data": images.tolist()}
    return {"inputs": [described | changes]}


def infer(client: Client, content: Any) -> Any:
    response = client.post(INFER, content)
    assert response.status == 200, response.body
    return response.content


@pytest.mark.parametrize("flat", [False, True])
def test_json_tensors_may_be_nested_or_flat(client: Client, images: Any, expected: Any, flat: bool) -> None:
    content = tensor(images, **({"data": images.ravel().tolist()} if flat else {})) | {"id": "mine"}

    answer = infer(client, content)

    (output,) = answer.pop("outputs")
    assert answer == {"model_name": NAME, "model_version": client.service.served.version, "id": "mine"}
    assert (output["name"], output["datatype"], output["shape"]) == ("probabilities", "FP32", [3, 10])
    np.testing.assert_allclose(np.reshape(output["data"], (3, 10)), expected, atol=1e-6)


def test_json_may_come_without_a_media_type_but_not_with_another(client: Client, images: Any) -> None:
    body = json.dumps(tensor(images)).encode()

    assert client.ask("POST", INFER, body).status == 200
    assert client.ask("POST", INFER, body, Content_Type="text/plain").status == 415


def binary(images: Any, asked: Any, **changes: Any) -> tuple[bytes, dict[str, str]]:
    content = tensor(images, parameters={"binary_data_size": images.nbytes}) | asked
    del content["inputs"][0]["data"]
    content["inputs"][0] |= changes
    head = json.dumps(content).encode()
    return head + images.tobytes(), {"Inference_Header_Content_Length": str(len(head))}


@pytest.mark.parametrize(
    "asked",
    [
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}]},
    ],
)
def test_tensors_travel_as_bytes_both_ways(client: Client, images: Any, expected: Any, asked: Any) -> None:
    body, headers = binary(images, asked)

    response = client.ask("POST", INFER, body, **headers)

    assert response.status == 200, response.body
    assert response.headers["content-type"] == "application/octet-stream"
    length = int(response.headers["inference-header-content-length"])
    (output,) = json.loads(response.body[:length])["outputs"]
    assert output["parameters"]["binary_data_size"] == len(response.body) - length
    np.testing.assert_array_equal(np.frombuffer(response.body[length:], "<f4").reshape(output["shape"]), expected)


def test_bytes_in_and_json_out(client: Client, images: Any, expected: Any) -> None:
    body, headers = binary(images, {"outputs": [{"name": "probabilities", "parameters": {"binary_data": False}}]})

    (output,) = client.ask("POST", INFER, body, **headers).content["outputs"]

    np.testing.assert_allclose(np.reshape(output["data"], (3, 10)), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"datatype": "FP32"}, "expected the datatype UINT8, found FP32"),
        ({"shape": [1, 5, 5]}, "expected the shape [n, 28, 28], found [1, 5, 5]"),
        ({"shape": [0, 28, 28]}, "expected the shape [n, 28, 28], found [0, 28, 28]"),
        ({"shape": [True, 28, 28]}, "expected the shape [n, 28, 28], found [True, 28, 28]"),
        ({"shape": [-1, 28, 28]}, "expected the shape"),
        ({"shape": [2**62, 28, 28]}, "numbers, as the shape"),
        ({"shape": "all"}, "expected the shape"),
        ({"name": "picture"}, 'expected {"inputs": [{"name": "image", ...}]}'),
        ({"data": [0] * 3}, "expected 2352 numbers, as the shape [3, 28, 28] says, found 3"),
        ({"data": [256] * 2352}, "found 256 to 256"),
        ({"data": [True] * 2352}, "found true or false"),
        ({"data": None}, "found something else"),
        ({"data": []}, "found shape (0,)"),
    ],
)
def test_a_tensor_of_another_kind_is_refused(client: Client, images: Any, changes: Any, message: str) -> None:
    content = tensor(images, **({"data": images.ravel().tolist()} | changes))

    response = client.post(INFER, content)

    assert response.status == 400, response.body
    assert message in response.content["error"]


@pytest.mark.parametrize("many", [3, 60])
def test_nested_data_of_another_length_than_the_shape_says_is_refused(client: Client, images: Any, many: int) -> None:
    given = np.resize(images, (many, 28, 28))

    response = client.post(INFER, tensor(given, shape=[many - 1, 28, 28]))

    assert response.status == 400
    assert f"expected {many - 1} images, as the shape says, found {many}" in response.content["error"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "found another content"),
        ({"inputs": []}, "found another content"),
        ({"inputs": [1]}, "found another content"),
        (b"\xff", "expected JSON, found"),
    ],
)
def test_a_request_without_the_input_is_refused(client: Client, content: Any, message: str) -> None:
    response = client.post(INFER, content)

    assert response.status == 400
    assert message in response.content["error"]


@pytest.mark.parametrize("outputs", [[{"name": "logits"}], [{}, {}], "all"])
def test_another_output_is_refused(client: Client, images: Any, outputs: Any) -> None:
    response = client.post(INFER, tensor(images) | {"outputs": outputs})

    assert response.status == 400
    assert "expected the output probabilities alone" in response.content["error"]


@pytest.mark.parametrize(
    ("length", "size", "message"),
    [
        ("-1", 784, "Inference-Header-Content-Length of 0 to"),
        ("99999999", 784, "Inference-Header-Content-Length of 0 to"),
        ("1", 784, "expected JSON, found"),
        (None, 783, "expected 784 bytes of pixels, found 783 announced, 784 sent"),
        (None, None, "expected parameters.binary_data_size"),
        (None, "784", "expected 784 bytes of pixels"),
    ],
)
def test_bytes_that_are_announced_wrongly_are_refused(
    client: Client, images: Any, length: str | None, size: Any, message: str
) -> None:
    body, headers = binary(images[:1], {}, parameters={} if size is None else {"binary_data_size": size})
    if length is not None:
        headers["Inference_Header_Content_Length"] = length

    response = client.ask("POST", INFER, body, **headers)

    assert response.status == 400
    assert message in response.content["error"]


def test_metadata_and_health(client: Client) -> None:
    version = client.service.served.version
    for path in (f"/v2/models/{NAME}", f"/v2/models/{NAME}/versions/{version}"):
        content = client.ask("GET", path).content
        assert (content["name"], content["versions"]) == (NAME, [version])
        assert content["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 28, 28]}]
        assert content["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}]
        assert client.ask("GET", f"{path}/ready").content == {"name": NAME, "ready": True}
    assert client.ask("GET", "/v2").content["extensions"] == ["binary_tensor_data"]
    assert client.ask("GET", "/v2/health/live").content == {"live": True}
    assert client.ask("GET", "/v2/health/ready").content == {"ready": True}


@pytest.mark.parametrize("path", ["/v2/models/other", f"/v2/models/{NAME}/versions/99", "/v2/models/other/ready"])
def test_another_model_or_version_is_not_found(client: Client, path: str) -> None:
    response = client.ask("GET", path)

    assert response.status == 404
    assert f"expected the model {NAME} version" in response.content["error"]
