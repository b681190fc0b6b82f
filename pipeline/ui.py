"""Serve the MLflow UI of the local store on this machine, and open the training runs in a browser.

Example:
    python -m pipeline.ui --port 5001
"""

import argparse
import os
import subprocess
import sys
import threading
import time
import webbrowser

import requests

from pipeline.core import console, processes
from pipeline.core.params import Params
from pipeline.core.paths import TRACKING_URI, Paths
from pipeline.core.urls import redacted
from pipeline.serving import ports
from pipeline.serving.errors import BusyPortError
from pipeline.tracking import relocation, sqlite_store
from pipeline.tracking.errors import MissingStoreError

_POLL_SECONDS = 0.2
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


def runs_page(address: str, experiment: str | None) -> str:
    """The page that lists the training runs. MLflow opens an experiment at an overview for another kind of work."""
    return f"{address}/#/experiments/{experiment}/runs?workflowType=machine_learning" if experiment else address


def on_desktop() -> bool:
    """Whether somebody at a screen started this: a browser would start for nobody else, or take over the terminal."""
    screen = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(screen) and sys.stdout.isatty()


def open_when_up(address: str, page: str, server: "subprocess.Popen[bytes]") -> None:
    """Wait until the server answers, and open the page in the browser."""
    while server.poll() is None:
        try:
            requests.get(f"{address}/health", timeout=1)
        except requests.RequestException:
            time.sleep(_POLL_SECONDS)
        else:
            webbrowser.open(page)
            return


def show_named_store(params: Params, paths: Paths) -> None:
    """Print where to browse the store that MLFLOW_TRACKING_URI names."""
    page = uri = redacted(paths.tracking_uri)
    if uri.startswith("http"):
        from pipeline.tracking import runs  # MLflow takes seconds to import

        page = runs_page(uri.rstrip("/"), runs.experiment_id(params, paths))
    console.echo("ui", f"{TRACKING_URI} names the store: browse {page}")


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    if os.environ.get(TRACKING_URI):
        show_named_store(params, paths)
        return 0
    check(paths, options.port)
    for folder in relocation.follow(paths):
        console.echo("ui", f"the store was at {folder}; the UI now shows its artifacts from here")
    address = f"http://{ports.HOST}:{options.port}"
    page = runs_page(address, sqlite_store.experiment_id(paths.database, params.tracking.experiment))
    console.echo("ui", f"the MLflow UI starts at {page}; Ctrl-C ends it")
    with subprocess.Popen(command(paths, options.port), env=environment(), preexec_fn=processes.end_with_parent) as server:
        if on_desktop():
            threading.Thread(target=open_when_up, args=(address, page, server), daemon=True).start()
        try:
            return server.wait()
        except KeyboardInterrupt:
            server.terminate()
            return 0


if __name__ == "__main__":
    parser = console.parser("ui", __doc__)
    parser.add_argument("--port", type=int, default=5000, help="port to listen on (default: 5000)")
    sys.exit(console.run_command(parser, run))
