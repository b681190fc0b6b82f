"""Serve the MLflow UI of the local store on this machine.

Example:
    python -m pipeline.ui --port 5001
"""

import argparse
import os
import subprocess
import sys

from pipeline.core import console, processes
from pipeline.core.params import Params
from pipeline.core.paths import TRACKING_URI, Paths
from pipeline.core.urls import redacted
from pipeline.serving import ports
from pipeline.serving.errors import BusyPortError
from pipeline.tracking import relocation, sqlite_store
from pipeline.tracking.errors import MissingStoreError

# By default MLflow also accepts host names such as 10.evil.example, which anyone may point at this machine.
_NAMES = "localhost,127.0.0.1,localhost:*,127.0.0.1:*"


def command(paths: Paths, port: int) -> list[str]:
    """The MLflow server over the default store: reachable from this machine only, and without artifact uploads."""
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--backend-store-uri", f"sqlite:///{paths.database}"),
        *("--registry-store-uri", f"sqlite:///{paths.database}"),
        *("--default-artifact-root", (paths.store / "artifacts").as_uri()),
        *("--host", ports.HOST, "--port", str(port), "--workers", "1"),
        *("--allowed-hosts", _NAMES, "--cors-allowed-origins", f"http://{ports.HOST}:{port}", "--no-serve-artifacts"),
        *("--uvicorn-opts", "--log-level warning"),
    ]


def check(paths: Paths, port: int) -> None:
    """Raise an error if the server cannot start.

    Raises:
        MissingStoreError: there is no local store yet.
        BusyPortError: another process listens on `port`.
        OlderStoreError, NewerStoreError, UnreadableStoreError: the server would upgrade an older store without a copy.
    """
    if not paths.database.exists():
        raise MissingStoreError(paths.database)
    if found := ports.problem(port, "ui"):
        raise BusyPortError(found)
    sqlite_store.check(paths.database)


def environment() -> dict[str, str]:
    """This process's environment, without settings that could expose the server or switch off its checks."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_SERVER_")}
    ours = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_LOGGING_LEVEL": "WARNING", "PYTHONWARNINGS": "ignore"}
    return kept | ours


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    if os.environ.get(TRACKING_URI):
        console.echo("ui", f"{TRACKING_URI} names the store: browse {redacted(paths.tracking_uri)}")
        return 0
    check(paths, options.port)
    for folder in relocation.follow(paths):
        console.echo("ui", f"the store was at {folder}; the UI now shows its artifacts from here")
    console.echo("ui", f"the MLflow UI starts at http://{ports.HOST}:{options.port}; Ctrl-C ends it")
    with subprocess.Popen(command(paths, options.port), env=environment(), preexec_fn=processes.end_with_parent) as server:
        try:
            return server.wait()
        except KeyboardInterrupt:
            server.terminate()
            return 0


if __name__ == "__main__":
    parser = console.parser("ui", __doc__)
    parser.add_argument("--port", type=int, default=5000, help="port to listen on (default: 5000)")
    sys.exit(console.run_command(parser, run))
