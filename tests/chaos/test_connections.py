"""Nothing is sent home: strace watches every process of the pipeline for a connection that leaves this machine."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests

from pipeline.data.datasets import Split
from tests.chaos.conftest import LONG, Chaos
from tests.clones import Clone, clone_with_outputs
from tests.conftest import Repository
from tests.servers import free_port

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

_WAIT = 20  # seconds: ONNX Runtime's telemetry connects some seconds after a session was opened
_ADDRESS = re.compile(r'connect\(\d+, \{sa_family=AF_INET6?,.*?"([0-9a-f.:]+)"')


def outside(log: Path) -> set[str]:
    """The addresses beyond this machine to which a process connected."""
    found = {address for line in log.read_text(errors="replace").splitlines() for address in _ADDRESS.findall(line)}
    return {address for address in found if not address.startswith(("127.", "::1", "::ffff:127."))}


def watched(clone: Clone, log: Path, *command: str) -> "subprocess.Popen[str]":
    """Start a Python module in the clone under strace, in an account of its own."""
    (home := log.with_suffix(".home")).mkdir()
    author = {f"GIT_{role}_{key}": "test@example.org" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    settings = author | {"HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    tracer = ("strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=connect", "-o", str(log))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    variables = {name: value for name, value in os.environ.items() if name != "CI"} | settings
    return subprocess.Popen([*tracer, sys.executable, "-m", *command], cwd=clone.paths.root, env=variables, text=True, **pipes)


def completed(clone: Clone, log: Path, *command: str) -> None:
    process = watched(clone, log, *command)
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0, printed


@pytest.fixture(scope="module")
def clone(built: Repository, subset: dict[str, Split], tmp_path_factory: pytest.TempPathFactory) -> Clone:
    made = clone_with_outputs(built, tmp_path_factory.mktemp("connections") / "clone", subset, {"sweep.trials": 2})
    np.save(made.paths.root / "images.npy", subset["test"].images[:500])
    return made


def repro(clone: Clone, log: Path) -> None:
    completed(clone, log, "dvc", "repro", "--force")
    time.sleep(_WAIT)


def sweep(clone: Clone, log: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (make .venv/.sweep)")
    completed(clone, log, "pipeline.sweep")


def score(clone: Clone, log: Path) -> None:
    completed(clone, log, "pipeline.score", "images.npy", "--out", str(log.with_suffix(".out")))


def drift(clone: Clone, log: Path) -> None:
    completed(clone, log, "pipeline.drift", "images.npy")


def serve(clone: Clone, log: Path) -> None:
    port = free_port()
    process = watched(clone, log, "pipeline.serve", "--port", str(port), "--alias", "challenger")
    try:
        _wait_for(f"http://127.0.0.1:{port}/ping", process)
        time.sleep(_WAIT)
    finally:
        for traced in psutil.Process(process.pid).children():  # strace itself would leave them behind
            traced.terminate()
        process.wait(timeout=60)


def _wait_for(address: str, process: "subprocess.Popen[str]") -> None:
    for _ in range(600):
        try:
            requests.get(address, timeout=1)
            return
        except requests.RequestException:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.2)
    raise AssertionError(f"{address} does not answer")


LONG_ONES = [
    pytest.param(use, marks=pytest.mark.skipif(not LONG, reason="takes long")) for use in (repro, serve, sweep, drift)
]


@pytest.mark.parametrize("use", [score, *LONG_ONES])
def test_nothing_connects_beyond_this_machine(
    use: Callable[[Clone, Path], None], clone: Clone, chaos: Chaos, tmp_path: Path
) -> None:
    log = tmp_path / "log"

    use(clone, log)

    assert "connect" in log.read_text(errors="replace") or use is not serve  # strace has watched
    assert list(tmp_path.glob("log.home/.cache/Microsoft")) == []
    found = outside(log)
    chaos.count("Security", f"`{use.__name__}` connects to another machine", 1, int(not found))
    assert found == set()
