"""Several processes on one port: they share the counters, replace each other, and end with their parent."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import requests
from pyarrow import parquet

from tests.conftest import Repository, edit_params
from tests.imports import ROOT
from tests.servers import free_port, wait_until_healthy
from tests.serving.test_mlflow_protocol import request


@contextmanager
def serving(built: Repository, *arguments: str, cwd: Path | None = None) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """Serve a file, which needs no MLflow and starts fast."""
    port = free_port()
    command = [sys.executable, "-m", "pipeline.serve", "--port", str(port), "--model", str(built.paths.onnx), *arguments]
    process = subprocess.Popen(
        command,
        cwd=cwd or built.paths.root,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}", process)
        yield port, process
    finally:
        process.kill()
        process.wait()


def until(check: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ask(port: int) -> requests.Response:
    return requests.post(f"http://127.0.0.1:{port}/invocations", json=request(), timeout=60)


def images_counted(port: int) -> float:
    page = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
    return float(next(line.split()[1] for line in page.splitlines() if line.startswith("serve_images_total")))


def test_workers_share_a_port_and_their_counters_and_are_replaced(built: Repository) -> None:
    with serving(built, "--workers", "2") as (port, process):
        parent = psutil.Process(process.pid)
        until(lambda: len(parent.children()) == 2)
        for _ in range(20):
            assert ask(port).status_code == 200  # each on a connection of its own
        assert images_counted(port) == 20

        killed = parent.children()[0].pid
        os.kill(killed, signal.SIGKILL)
        until(lambda: len(parent.children()) == 2 and killed not in {child.pid for child in parent.children()})
        assert ask(port).status_code == 200
        assert images_counted(port) >= 21

        workers = parent.children()
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    lines = out.decode().splitlines()
    assert lines[0].startswith("serve     ")
    assert sum("Ctrl-C ends it" in line for line in lines) in (1, 2)  # again if the first worker was replaced
    assert f"worker {killed} ended with exit code -9; another takes its place" in out.decode()
    assert b"Traceback" not in err  # a worker that was just started may say that it was interrupted
    assert not any(worker.is_running() for worker in workers)


def test_workers_end_when_their_parent_is_killed(built: Repository) -> None:
    with serving(built, "--workers", "2") as (_, process):
        parent = psutil.Process(process.pid)
        until(lambda: len(parent.children()) == 2)
        workers = parent.children()
        process.kill()
        process.wait()
        until(lambda: not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers))


def test_workers_that_cannot_start_say_why_once(built: Repository, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline.serve", "--port", str(free_port()), "--workers", "2"]
    command += ["--model", str(built.paths.onnx), "--sha256", "0" * 64]

    done = subprocess.run(
        command, cwd=built.paths.root, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert done.stderr.count("expected the file with SHA-256 0000") == 1


def test_what_is_under_way_is_answered_after_sigterm_and_the_capture_is_written(built: Repository, tmp_path: Path) -> None:
    shutil.copy(built.paths.params, tmp_path)
    edit_params(tmp_path / "params.yaml", {"serve.capture.share": 1.0})
    body = json.dumps(request()).encode()
    with serving(built, "--capture", "captured", cwd=tmp_path) as (port, process):
        head = f"POST /invocations HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=60) as slow:
            slow.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:100])
            requests.get(f"http://127.0.0.1:{port}/ping", timeout=60)  # so that the server has read it
            process.terminate()
            until(lambda: refused(port))
            slow.sendall(body[100:])
            assert slow.recv(1000).startswith(b"HTTP/1.1 200")
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    kept = [parquet.read_table(path).num_rows for path in (tmp_path / "captured").glob("*.parquet")]
    assert kept == [1]


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False
