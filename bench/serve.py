"""The server against `mlflow models serve`, BentoML and in-process ONNX Runtime: `python -m bench.serve`, at most 5 minutes.

The same file and the same requests, in turn, on an idle machine. BentoML runs in a temporary environment of its own.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import requests

from bench import load, report, rows, wire
from bench.load import Load
from bench.rows import Row
from pipeline.core import files
from pipeline.core.paths import Paths
from pipeline.data import datasets
from tests.servers import free_port

ROUNDS, SECONDS = 3, 1.0
CONNECTIONS, IMAGES = (1, 16, 64), (1, 100)
OURS, CAPTURING, WORKERS, MLFLOW, BENTO = (
    *("this server", "this server, --capture", "this server, --workers 2"),
    *("mlflow models serve", "BentoML"),
)
JSON, BINARY = "JSON", "binary"
KINDS = {OURS: (JSON, BINARY), CAPTURING: (JSON,), WORKERS: (JSON, BINARY), MLFLOW: (JSON,), BENTO: (JSON,)}

_SERVICE = """
import bentoml, numpy as np, onnxruntime

@bentoml.service(workers=1)
class Digits:
    def __init__(self) -> None:
        self.session = onnxruntime.InferenceSession({path!r}, providers=["CPUExecutionProvider"])

    @bentoml.api
    def predict(self, image: np.ndarray) -> np.ndarray:
        return self.session.run(None, {{"image": image.astype(np.uint8)}})[0]
"""


class Case(NamedTuple):
    """One kind of request over a number of connections."""

    contender: str
    kind: str
    images: int
    connections: int


class Server(NamedTuple):
    port: int
    process: "subprocess.Popen[bytes]"
    ready: float  # seconds from its start to its first answer

    @property
    def megabytes(self) -> float:
        family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        return sum(float(each.memory_info().rss) for each in family) / 1e6


@contextmanager
def started(command: list[str], folder: Path, health: str = "/ping", work: Path | None = None) -> Iterator[Server]:
    """Start a server, whose command ends with its port, in `work` or `folder`, and yield it when it answers."""
    environment = os.environ | {"MLFLOW_DISABLE_ENV_MANAGER_CONDA_WARNING": "true", "BENTOML_DO_NOT_TRACK": "1"}
    start, port = time.perf_counter(), int(command[-1])
    with (folder / f"{port}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=work or folder)
    try:
        while True:
            try:
                requests.get(f"http://127.0.0.1:{port}{health}", timeout=1)
                break
            except requests.RequestException:
                if process.poll() is not None or time.perf_counter() - start > 90:
                    raise RuntimeError((folder / f"{port}.log").read_text()[-2000:]) from None
                time.sleep(0.02)
        yield Server(port, process, time.perf_counter() - start)
    finally:
        with suppress(psutil.NoSuchProcess):
            for each in psutil.Process(process.pid).children(recursive=True):
                each.kill()
        process.kill()
        process.wait()


def ours(onnx: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "pipeline.serve", "--model", str(onnx), *options, "--port", str(free_port())]


def mlflow_command(onnx: Path, folder: Path) -> list[str]:
    """Save the file as a model of MLflow, as register logs it; return the command that serves it."""
    import mlflow.onnx
    import onnx as library
    from mlflow.models.signature import ModelSignature
    from mlflow.types.schema import Schema, TensorSpec

    proto = library.load(onnx)
    (image,), (probabilities,) = proto.graph.input, proto.graph.output
    shapes = [[size.dim_value or -1 for size in value.type.tensor_type.shape.dim] for value in (image, probabilities)]
    inputs = Schema([TensorSpec(np.dtype(np.uint8), tuple(shapes[0]), image.name)])
    outputs = Schema([TensorSpec(np.dtype(np.float32), tuple(shapes[1]), probabilities.name)])
    mlflow.onnx.save_model(
        *(proto, str(folder / "model")),
        signature=ModelSignature(inputs, outputs),
        save_as_external_data=False,
        onnx_execution_providers=["CPUExecutionProvider"],
    )
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "--model-uri"]
    return [*command, str(folder / "model"), "--port", str(free_port())]


def bento_command(onnx: Path, folder: Path) -> list[str] | None:
    """Install BentoML beside ONNX Runtime; return the command that serves the file, or None where it does not install."""
    python = folder / "venv" / "bin" / "python"
    (folder / "service.py").write_text(_SERVICE.format(path=str(onnx)))
    uv, packages = [sys.executable, "-m", "uv", "--quiet"], ["bentoml==1.4.40", "onnxruntime", "numpy"]
    try:
        subprocess.run([*uv, "venv", "--python", sys.executable, str(folder / "venv")], check=True)
        install = [*uv, "pip", "install", "--python", str(python), *packages]
        subprocess.run(install, check=True, timeout=120, capture_output=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return [str(python), "-m", "bentoml", "serve", "service:Digits", "--port", str(free_port())]


def message(case: Case, images: Any, port: int, name: str) -> bytes:
    """The request of a case."""
    pixels, sent = images[: case.images], {"Content-Type": "application/json"}
    if case.contender == BENTO:
        return load.request("/predict", json.dumps({"image": pixels.tolist()}).encode(), sent, port)
    if case.kind == JSON:
        return load.request("/invocations", json.dumps({"inputs": {"image": pixels.tolist()}}).encode(), sent, port)
    tensor = {"name": "image", "datatype": "UINT8", "shape": pixels.shape, "parameters": {"binary_data_size": pixels.nbytes}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    sent = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return load.request(f"/v2/models/{name}/infer", head + pixels.tobytes(), sent, port)


def in_process(onnx: Path, images: Any) -> float:
    """Images per second of ONNX Runtime on one core, in batches of 100."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
    batch, count, start = np.ascontiguousarray(images[:100]), 0, time.perf_counter()
    while (taken := time.perf_counter() - start) < SECONDS:
        session.run(None, {"image": batch})
        count += len(batch)
    return count / taken


def cases(contenders: list[str]) -> list[Case]:
    return [
        Case(contender, kind, images, connections)
        for images in IMAGES
        for connections in CONNECTIONS
        for contender in contenders
        for kind in KINDS[contender]
        if contender in (OURS, MLFLOW, BENTO) or connections == 16
    ]


def median(loads: list[Load]) -> Load:
    """The median of each figure; the sum of the failures."""
    figures = [statistics.median(values) for values in list(zip(*loads, strict=True))[:3]]
    return Load(*figures, failed=sum(each.failed for each in loads))


def seconds_to_ready(command: list[str], folder: Path, work: Path | None = None) -> float:
    """The median of three starts, one after the other."""
    taken = []
    for _ in range(ROUNDS):
        with started(command, folder, work=work) as server:
            taken.append(server.ready)
    return statistics.median(taken)


def registered(paths: Paths) -> list[str]:
    """The command that serves the champion of the store, or the challenger where there has never been a champion."""
    alias = "champion" if paths.promotion.is_file() else "challenger"
    return [sys.executable, "-m", "pipeline.serve", "--alias", alias, "--port", str(free_port())]


def ratios(found: dict[Case, Load], alone: float, ready: dict[str, float]) -> list[Row]:
    one, many, binary = Case(OURS, JSON, 1, 16), Case(OURS, JSON, 100, 16), found[Case(OURS, BINARY, 100, 16)].per_second

    def over(case: Case, contender: str) -> float:
        return found[case].per_second / found[case._replace(contender=contender)].per_second

    return [
        Row("one image as JSON, 16 connections, requests/s", MLFLOW, over(one, MLFLOW), least=5),
        Row("100 images as JSON, 16 connections, requests/s", MLFLOW, over(many, MLFLOW), least=12),
        Row(
            "100 images as bytes, 16 connections, images/s",
            "ONNX Runtime in process on one core",
            100 * binary / alone,
            least=0.5,
        ),
        Row("one image as JSON with --capture, requests/s", "without", 1 / over(one, CAPTURING), least=0.95),
        Row("99th percentile of one image as JSON, 16 connections", "1 ms", found[one].p99, most=6),
        Row("from start to first answer, from a file", "1 s", ready[OURS], most=1.5),
    ]


def body(found: dict[Case, Load], alone: float, servers: dict[str, Server], ready: dict[str, float]) -> str:
    header = ["server", "body", "images", "connections", "requests/s", "median, ms", "99th percentile, ms", "failed"]
    lines = [
        [*map(str, case), f"{each.per_second:,.0f}", f"{each.median:.2f}", f"{each.p99:.2f}", str(each.failed)]
        for case, each in sorted(found.items(), key=lambda entry: (entry[0].images, entry[0].connections))
    ]
    starts = {name: server.ready for name, server in servers.items()} | ready
    megabytes = {name: f"{server.megabytes:,.0f}" for name, server in servers.items()}
    states = [[name, f"{seconds:.2f}", megabytes.get(name, "")] for name, seconds in starts.items()]
    return "\n".join(
        [
            f"ONNX Runtime in process, one core, batches of 100: {alone:,.0f} images/s.\n",
            rows.table(ratios(found, alone, ready)) + "\n",
            report.table(header, lines) + "\n",
            report.table(["server", "seconds to ready", "memory after the load, MB"], states) + "\n",
        ]
    )


def accuracy(paths: Paths, server: Server, name: str) -> str:
    """A table of the accuracy by each protocol, beside that of metrics.json."""
    found = wire.accuracies(f"http://127.0.0.1:{server.port}", name, datasets.load(paths, "test"))
    found["metrics.json"] = files.read_json(paths.metrics)["accuracy"]
    return report.table(["accuracy on the test images by", ""], [[by, f"{value:.2%}"] for by, value in found.items()])


def main() -> int:
    paths = Paths(Path().absolute())
    images = np.asarray(datasets.open_split(paths, "test").images[:100])
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "params.yaml").write_bytes(paths.params.read_bytes())
        os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
        ready = {
            OURS: seconds_to_ready(ours(paths.onnx), folder),
            f"{OURS}, of a SQLite registry": seconds_to_ready(registered(paths), folder, paths.root),
        }
        commands: dict[str, list[str] | None] = {
            OURS: ours(paths.onnx),
            CAPTURING: ours(paths.onnx, "--capture", str(folder / "captured")),
            WORKERS: ours(paths.onnx, "--workers", "2"),
            MLFLOW: mlflow_command(paths.onnx, folder),
            BENTO: bento_command(paths.onnx, folder),
        }
        servers = {
            contender: stack.enter_context(started(command, folder, "/readyz" if contender == BENTO else "/ping"))
            for contender, command in commands.items()
            if command is not None
        }
        served = requests.get(f"http://127.0.0.1:{servers[OURS].port}/v2", timeout=60).json()["name"]
        found: dict[Case, list[Load]] = {case: [] for case in cases(list(servers))}
        alone = []
        for _ in range(ROUNDS):
            alone.append(in_process(paths.onnx, images))
            for case, loads in found.items():
                server = servers[case.contender]
                request = message(case, images, server.port, served)
                loads.append(load.measure(request, server.port, case.connections, SECONDS))
        medians = {case: median(loads) for case, loads in found.items()}
        exact = accuracy(paths, servers[OURS], served)
        described = report.machine("python -m bench.serve", "mlflow", "onnxruntime", "uvicorn", "starlette", "orjson")
        report.put("Serving", f"{described}\n\n{body(medians, statistics.median(alone), servers, ready)}\n{exact}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
