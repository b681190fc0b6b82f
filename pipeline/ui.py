"""Serve the MLflow UI of the pipeline's store on this machine."""

import argparse
import os
import signal
import subprocess
import sys

from pipeline.core.errors import PipelineError
from pipeline.core.paths import Paths
from pipeline.core.urls import redacted
from pipeline.serving import ports
from pipeline.tracking import relocation, sqlite_store

# MLflow lets in whoever asks by a name such as 10.evil.example, which may be anybody's name for this machine.
_NAMES = "localhost,127.0.0.1,localhost:*,127.0.0.1:*"


def command(paths: Paths, port: int) -> list[str]:
    """The MLflow server over the default store, reachable from this machine only. It shows artifacts, and takes none."""
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--backend-store-uri", f"sqlite:///{paths.database}"),
        *("--registry-store-uri", f"sqlite:///{paths.database}"),
        *("--default-artifact-root", (paths.store / "artifacts").as_uri()),
        *("--host", ports.HOST, "--port", str(port), "--workers", "1"),
        *("--allowed-hosts", _NAMES, "--cors-allowed-origins", f"http://{ports.HOST}:{port}", "--no-serve-artifacts"),
        *("--uvicorn-opts", "--log-level warning"),
    ]


def problem(paths: Paths, port: int) -> str | None:
    """Why the server cannot start, or None."""
    if not paths.database.exists():
        return f"{paths.database}: expected a store, found none. `make repro` makes it, `make register` makes it again."
    return ports.problem(port, "ui")


def environment() -> dict[str, str]:
    """This process's, without what could widen the server or switch its checks off."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_SERVER_")}
    own = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_LOGGING_LEVEL": "WARNING", "PYTHONWARNINGS": "ignore"}
    return kept | own


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.ui", description=__doc__)
    parser.add_argument("--port", type=int, default=5000)
    port, paths = parser.parse_args().port, Paths()
    if os.environ.get("MLFLOW_TRACKING_URI"):
        print(f"MLFLOW_TRACKING_URI names the store: browse {redacted(paths.tracking_uri)}")
        return 0
    if found := problem(paths, port):
        print(f"error: {found}", file=sys.stderr)
        return 1
    try:
        sqlite_store.check(paths.database)  # the server would upgrade an older one, without a copy
        left = relocation.follow(paths)
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for folder in left:
        print(f"The store was at {folder}; its artifacts are found here now.")
    print(f"The MLflow UI is at http://{ports.HOST}:{port} in a few seconds; Ctrl-C ends it.", flush=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.run(command(paths, port), env=environment(), check=False).returncode
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
