"""The scoring server: its answers, the requests that it refuses, and how it stops."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import requests

from pipeline import serve
from pipeline.core import files
from pipeline.data.datasets import Split
from pipeline.inference.onnx_model import OnnxModel
from pipeline.tracking.errors import NoVersionError
from tests.conftest import Repository
from tests.imports import ROOT
from tests.servers import free_port


@dataclass
class Server:
    port: int
    process: "subprocess.Popen[str]"

    def post(self, body: Any, **headers: str) -> requests.Response:
        data = body if isinstance(body, str | bytes) else json.dumps(body)
        sent = {"Content-Type": "application/json", **{key.replace("_", "-"): value for key, value in headers.items()}}
        return requests.post(f"http://127.0.0.1:{self.port}/invocations", data=data, headers=sent, timeout=60)


def start_server(built: Repository, port: int, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.serve", "--port", str(port), *arguments],
        cwd=built.paths.root,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(port: int, process: "subprocess.Popen[str]") -> None:
    for _ in range(600):
        try:
            requests.get(f"http://127.0.0.1:{port}/ping", timeout=1)
            return
        except requests.RequestException:
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.1)


@contextmanager
def serving(built: Repository, *arguments: str) -> Iterator[Server]:
    process = start_server(built, port := free_port(), *arguments)
    try:
        wait_for(port, process)
        yield Server(port, process)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def server(built: Repository) -> Iterator[Server]:
    with serving(built, "--alias", "challenger") as server:
        yield server


@pytest.fixture
def images(subset: dict[str, Split]) -> Any:
    return np.array(subset["test"].images[:3])


def request(pixel: Any = 0, shape: tuple[int, ...] = (1, 28, 28)) -> Any:
    """A request with one image: one pixel is `pixel`, the others are 0."""
    array = np.zeros(shape, object)
    array.ravel()[5] = pixel
    return {"inputs": {"image": array.tolist()}}


def test_the_server_returns_the_probabilities_of_the_file(server: Server, built: Repository, images: Any) -> None:
    for content in ({"inputs": {"image": images.tolist()}}, {"inputs": images.tolist()}, {"instances": images.tolist()}):
        response = server.post(content)

        assert response.status_code == 200, response.text
        probabilities = response.json()["predictions"]["probabilities"]
        np.testing.assert_allclose(probabilities, OnnxModel(built.paths.onnx).predict(images), atol=1e-6)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (request(shape=(1, 5, 5)), 400, "of shape (n, 28, 28), found shape (1, 5, 5)"),
        (request(shape=(28, 28)), 400, "found shape (28, 28)"),
        (request(256), 400, "found 0 to 256"),
        (request(-1), 400, "found -1 to 0"),
        (request(10**30), 400, "found something else"),
        (request(3.5), 400, "found numbers with a fraction, or NaN"),
        (request(float("nan")), 400, "found numbers with a fraction, or NaN"),
        (request(True), 400, "true or false"),
        (request(None), 400, "found something else"),
        (request("a"), 400, "found "),
        ({"inputs": {"image": [[[1, 2], [3]]]}}, 400, "found lists of different lengths"),
        ({"inputs": {"image": []}}, 400, "found "),
        ({"inputs": {"picture": [[[1]]]}}, 400, "found "),
        ({"x": 1}, 400, "found another content"),
        ([], 400, "found another content"),
        ("{", 400, "expected JSON, found"),
        ("", 400, "expected JSON, found"),
        (b"\xff\xfe\x00", 400, "expected JSON, found"),
        ("[" * 100_000 + "]" * 100_000, 400, "expected JSON, found"),
        (" " * 10_000_001, 413, "expected at most 10,000,000 bytes (serve.max_bytes), found more"),
    ],
)
def test_an_invalid_request_is_refused_with_the_reason_and_the_server_keeps_running(
    server: Server, body: Any, status: int, message: str
) -> None:
    response = server.post(body)

    assert response.status_code == status, response.text
    assert message in response.json()["message"]
    assert server.post(request()).status_code == 200


def test_a_pinned_version_is_served_and_no_alias_is_followed(built: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(built.paths.root)

    served, find, line = serve.opened(serve.parser().parse_args(["--pin", "1"]), built.params, built.paths)

    assert (served.version, find) == ("1", None)
    assert "version 1 (pinned)" in line
    with pytest.raises(NoVersionError, match="number 7"):
        serve.opened(serve.parser().parse_args(["--pin", "7"]), built.params, built.paths)


def test_another_content_type_is_refused(server: Server) -> None:
    assert server.post("a,b\n1,2\n", Content_Type="text/csv").status_code == 415


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}])
def test_cross_site_requests_are_refused(server: Server, headers: dict[str, str]) -> None:
    assert server.post(request(), **headers).status_code == 403


@pytest.mark.parametrize("headers", [{"Host": "["}, {"Origin": "http://["}])
def test_an_invalid_host_or_origin_is_the_clients_error(server: Server, headers: dict[str, str]) -> None:
    response = server.post(request(), **headers)

    assert response.status_code == 400
    assert "expected an address, found" in response.json()["message"]


def test_the_server_listens_on_the_loopback_address_only(server: Server) -> None:
    listening = [entry for entry in psutil.Process(server.process.pid).net_connections() if entry.status == "LISTEN"]

    assert [tuple(entry.laddr) for entry in listening] == [("127.0.0.1", server.port)]


def test_concurrent_requests_get_their_own_responses(server: Server, built: Repository, images: Any) -> None:
    expected = OnnxModel(built.paths.onnx).predict(images)

    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda number: server.post({"inputs": images[number % 3 :][:1].tolist()}), range(40)))

    for number, response in enumerate(responses):
        probabilities = response.json()["predictions"]["probabilities"][0]
        np.testing.assert_allclose(probabilities, expected[number % 3], atol=1e-6)


@pytest.mark.parametrize("binary", [True, False])
def test_a_client_of_triton_gets_the_probabilities(server: Server, built: Repository, images: Any, binary: bool) -> None:
    from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

    with InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("mnist-dense", "1")
        described = client.get_model_metadata("mnist-dense")
        (given,) = described["inputs"]
        asked = InferInput(given["name"], [len(images), *given["shape"][1:]], given["datatype"])
        asked.set_data_from_numpy(images, binary_data=binary)
        wanted = InferRequestedOutput(described["outputs"][0]["name"], binary_data=binary)
        result = client.infer("mnist-dense", [asked], outputs=[wanted], request_id="mine")

    np.testing.assert_allclose(result.as_numpy("probabilities"), OnnxModel(built.paths.onnx).predict(images), atol=1e-6)
    assert (result.get_response()["id"], result.get_response()["model_version"]) == ("mine", "1")


def test_a_client_of_triton_is_told_what_is_wrong(server: Server, images: Any) -> None:
    from tritonclient.http import InferenceServerClient, InferInput
    from tritonclient.utils import InferenceServerException

    with InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        asked = InferInput("image", [3, 28, 28], "INT32")
        asked.set_data_from_numpy(images.astype(np.int32))
        with pytest.raises(InferenceServerException, match="expected the datatype UINT8, found INT32"):
            client.infer("mnist-dense", [asked])
        with pytest.raises(InferenceServerException, match="expected the model mnist-dense version 1"):
            client.get_model_metadata("other")


def test_the_commands_of_the_serving_page_work(server: Server, built: Repository) -> None:
    section = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8").partition("## Serve it")[2]
    commands = [line.removeprefix("$ ") for line in section.splitlines() if line.startswith("$ ")]
    assert any(command.startswith("curl") for command in commands)

    for command in commands:
        line = re.sub(r"127\.0\.0\.1:5001", f"127.0.0.1:{server.port}", command)
        environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-c", line], cwd=built.paths.root, env=environment, capture_output=True, text=True, check=True
        )

    vectors = files.read_json(built.paths.contract)["test_vectors"]
    probabilities = json.loads(done.stdout)["predictions"]["probabilities"]
    np.testing.assert_allclose(probabilities, vectors["probabilities"], atol=vectors["tolerance"])


@pytest.mark.parametrize("settings", [{"WEB_CONCURRENCY": "2", "UVICORN_PORT": "1"}, {"WEB_CONCURRENCY": "many"}])
def test_sigterm_stops_the_server_without_an_error_whatever_the_host_sets(
    built: Repository, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    process = start_server(built, port := free_port(), "--alias", "challenger")
    wait_for(port, process)
    process.send_signal(signal.SIGTERM)

    out, err = process.communicate(timeout=30)

    assert process.returncode == 0
    assert out == f"serve     mnist-dense version 1 (challenger) at http://127.0.0.1:{port}; Ctrl-C ends it\n"
    assert err == ""


def test_a_missing_champion_and_a_port_in_use_are_clear_errors(server: Server, built: Repository) -> None:
    _, no_champion = start_server(built, free_port()).communicate(timeout=120)
    _, port_in_use = start_server(built, server.port).communicate(timeout=120)

    assert "mnist-dense: expected a version with the alias champion, found none" in no_champion
    assert "make serve ALIAS=challenger" in no_champion
    assert f"port {server.port}: expected it to be free, found: Address already in use" in port_in_use
