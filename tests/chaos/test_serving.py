"""The server under load: promotions, clients that are slow or gone, kills, and a capture that keeps its bounds."""

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnx
import psutil
import pytest
from pyarrow import parquet

from pipeline.core import files
from pipeline.core.paths import Paths
from pipeline.inference.onnx_model import OnnxModel
from pipeline.tracking import connection
from tests.chaos.conftest import LONG, Chaos
from tests.conftest import Repository, forget_store
from tests.imports import ROOT
from tests.servers import free_port, verb

KIND = "Serving"
MOST_SECONDS = 5  # from a promotion to the first answer of its version; only long runs, on an idle machine, judge it
NAME = "mnist-dense"


def altered(source: Path, target: Path) -> None:
    """Copy a registered model with other weights, and a contract that states them."""
    shutil.copytree(source, target)
    proto = onnx.load(target / "model.onnx")
    bias = next(each for each in proto.graph.initializer if list(each.dims) == [10])
    values = onnx.numpy_helper.to_array(bias) + np.linspace(0, 3, 10, dtype=np.float32)
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    onnx.save(proto, target / "model.onnx")
    contract = files.read_json(target / "contract.json")
    images = np.array(contract["test_vectors"]["image"], np.uint8)
    contract["files"]["model.onnx"] = files.sha256(target / "model.onnx")
    contract["test_vectors"]["probabilities"] = OnnxModel(target / "model.onnx").predict(images).tolist()
    (target / "contract.json").write_text(json.dumps(contract))


@dataclass
class Served:
    """A server of the champion, its store, and what each version answers to `image`."""

    port: int
    process: int
    client: Any
    image: Any
    expected: dict[str, Any]
    capture: Path

    def promote(self, version: str) -> None:
        self.client.set_registered_model_alias(NAME, "champion", version)


@pytest.fixture(scope="module")
def served(built: Repository, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("serving") / "tree"
    shutil.copytree(built.paths.root, root, ignore=shutil.ignore_patterns("source", "raw", "explorer"))
    forget_store()  # it may be that of `built`, which others share
    paths, capture = Paths(root), root / "captured"
    with contextlib.chdir(root):
        connection.connect(built.params, paths)  # the store follows its new place
        source = Path(mlflow.artifacts.download_artifacts(f"models:/{NAME}/1", dst_path=str(root / "first")))
    store = f"sqlite:///{paths.database.absolute()}"
    client = mlflow.MlflowClient(store, store)
    altered(source, root / "second")
    tags = {"onnx_sha256": files.sha256(root / "second" / "model.onnx"), "int8_sha256": files.sha256(built.paths.int8)}
    second = str(client.create_model_version(NAME, (root / "second").as_uri(), tags=tags).version)
    image = np.array(files.read_json(built.paths.contract)["test_vectors"]["image"][:1], np.uint8)
    expected = {
        version: OnnxModel(path / "model.onnx").predict(image) for version, path in (("1", source), (second, root / "second"))
    }
    assert np.abs(expected["1"] - expected[second]).max() > 0.01
    client.set_registered_model_alias(NAME, "champion", "1")
    with verb("serve", root, port := free_port(), "--capture", str(capture)) as process:
        yield Served(port, process.pid, client, image, expected, capture)


@dataclass
class Load:
    """Threads that ask until they are told to stop, and what came of it."""

    served: Served
    answered: int = 0
    failed: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    @contextlib.contextmanager
    def running(self, threads: int = 3) -> Iterator["Load"]:
        stop = threading.Event()
        started = [threading.Thread(target=self._ask, args=(stop,)) for _ in range(threads)]
        for each in started:
            each.start()
        try:
            yield self
        finally:
            stop.set()
            for each in started:
                each.join()

    def _ask(self, stop: threading.Event) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.served.port, timeout=60)
        body = json.dumps({"inputs": self.served.image.tolist()})
        while not stop.is_set():
            try:
                connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                version, content = response.headers["X-Model-Version"], json.loads(response.read())
                found = np.array(content["predictions"]["probabilities"])
                assert np.abs(found - self.served.expected[version]).max() < 1e-6, f"not of version {version}"
            except Exception as error:
                self.failed.append(f"{type(error).__name__}: {error}")
                return
            self.answered += 1
            self.seen.add(version)


def until(check: Any) -> None:
    deadline = time.monotonic() + 60
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_promotions_under_load_lose_and_mix_nothing(served: Served, chaos: Chaos) -> None:
    tries, taken = chaos.tries(2, 10), 0
    load = Load(served)
    with load.running():
        for number in range(tries):
            version = ("2", "1")[number % 2]
            served.promote(version)
            load.seen.clear()
            promoted = time.monotonic()
            until(lambda version=version: version in load.seen or load.failed)
            taken += chaos.tries(1, time.monotonic() - promoted <= MOST_SECONDS)
            time.sleep(chaos.tries(0, 4))

    assert load.failed == []
    assert load.answered > 100
    chaos.count(KIND, f"a promotion while requests are answered, served within {MOST_SECONDS} seconds", tries, taken)


def rss(process: int) -> int:
    return int(psutil.Process(process).memory_info().rss)


def half(served: Served, number: int) -> socket.socket:
    """A connection of a client that does not go on: after nothing, some headers, or a part of the body."""
    opened = socket.create_connection(("127.0.0.1", served.port), timeout=60)
    start = f"POST /invocations HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Type: application/json\r\n"
    opened.sendall([b"", start.encode(), f'{start}Content-Length: 9999\r\n\r\n{{"inputs": ['.encode()][number % 3])
    return opened


def test_clients_that_are_slow_or_gone_disturb_no_others(served: Served, chaos: Chaos) -> None:
    tries, load = chaos.tries(60, 900), Load(served)
    with contextlib.ExitStack() as stack, load.running():
        for number in range(tries):
            connection = half(served, number)
            if number % 2:
                connection.close()  # in the middle
            else:
                stack.callback(connection.close)
        before = load.answered
        until(lambda: load.answered > before + 100 or load.failed)

    assert load.failed == []
    chaos.count(KIND, "a connection that stops in the middle", tries, tries)


def test_many_connections_one_after_the_other_leave_the_memory_as_it_is(served: Served, chaos: Chaos) -> None:
    tries, answered = chaos.tries(200, 10_000), 0
    body = json.dumps({"inputs": served.image.tolist()}).encode()
    head = f"POST /invocations HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Type: application/json\r\n"
    request = f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    before = 0
    for number in range(tries):
        if number == tries // 10:
            before = rss(served.process)
        with socket.create_connection(("127.0.0.1", served.port), timeout=60) as connection:
            connection.sendall(request)
            answered += connection.recv(1000).startswith(b"HTTP/1.1 200")
    grown = rss(served.process) - before

    assert grown < 20_000_000, f"{grown:,} bytes more after {tries} connections"
    chaos.count(KIND, "a connection for one request", tries, answered)


@pytest.mark.skipif(not LONG, reason="kills a process many times")
def test_a_kill_leaves_no_broken_file_of_a_capture(tmp_path: Path, chaos: Chaos) -> None:
    """Kill a process that captures without a pause, and read what it left."""
    tries, whole, rows, lost = chaos.tries(2, 20), 0, 0, 0
    code = (
        "import sys, numpy as np; from pathlib import Path; from pipeline.serving.capture import Capture\n"
        "from pipeline.core.params import CaptureParams\n"
        "bounds = CaptureParams(share=1.0, per_minute=10**9, most_bytes=2_000_000, most_days=1.0)\n"
        "capture = Capture(Path(sys.argv[1]), bounds)\n"
        "images = np.random.default_rng().integers(0, 255, (200, 28, 28), np.uint8)\n"
        "while True:\n"
        "    capture.offer(images, np.zeros((200, 10), np.float32), '1'); capture.flush(); print(flush=True)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for number in range(tries):
        command = [sys.executable, "-c", code, str(tmp_path)]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(number % 10 / 50)
            process.kill()
        found = list(tmp_path.glob("*.parquet"))
        read = [parquet.read_table(path).num_rows for path in found if not path.name.startswith(".")]
        lost += sum(count != 200 for count in read)
        lost += sum(path.stat().st_size for path in found) > 2_000_000
        whole, rows = whole + (len(read) > 0), rows + len(read)

    assert rows
    chaos.count(KIND, "a kill while a capture is written", tries, whole, lost)
