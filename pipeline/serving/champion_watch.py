"""Follow an alias of the registry: look at it every few seconds, and let a new version take over once it has proved itself."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pipeline.core import console
from pipeline.core.errors import PipelineError, first_line
from pipeline.serving.errors import BrokenContractError
from pipeline.serving.served_model import CONTRACT, ServedModel, open_checked, same_interface
from pipeline.serving.service import Service

if TYPE_CHECKING:
    from pipeline.tracking.registry import Version

SECONDS = 2.0  # between two looks

_AGAIN = 60.0  # seconds until a refused version is tried again: its files may have been restored
# MLflow asks a server that is away for minutes by default; the next look comes anyway.
STORE_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def fetch(version: "Version") -> ServedModel:
    """Download a version of the registry and open it, after comparing its files with their hashes and its contract.

    Raises:
        AlteredModelError, BrokenContractError, MissingInputError, UnusableInputError: the version cannot be served.
    """
    from pipeline.tracking import registry  # importing MLflow takes seconds, and a file does not need it

    with TemporaryDirectory(prefix="serve-") as folder:
        onnx, *_ = registry.download(version, Path(folder))
        return open_checked(onnx, version.name, str(version.number), onnx.with_name(CONTRACT))


class Watch:
    """Look at the registry in a thread of its own, so that no request waits for it."""

    def __init__(
        self,
        service: Service,
        find: Callable[[], "Version | None"],
        fetch: Callable[["Version"], ServedModel] = fetch,
        seconds: float = SECONDS,
    ) -> None:
        """Let the version that `find` names take over in `service`."""
        self._service, self._find, self._fetch, self._seconds = service, find, fetch, seconds
        self._refused: dict[int, float] = {}  # when, by version
        self._trouble = ""  # the last line about it, which is printed once
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Look no more. A look that waits for a store ends with the process."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            self.look()

    def look(self) -> None:
        """Take over the version that the alias names, if it is another one than before and passes."""
        try:
            version = self._find()
            if version is None:
                self._say("no version has the alias any more")
            elif str(version.number) != self._service.served.version:
                self._try(version)
            else:
                self._trouble = ""
        except PipelineError as error:
            self._say(first_line(error), "failed")
        except Exception as error:  # MLflow's, SQLAlchemy's, of files and of the network: the store is away
            self._say(f"the registry cannot be read ({first_line(error)})", "failed")

    def _try(self, version: "Version") -> None:
        if time.monotonic() - self._refused.get(version.number, -_AGAIN) < _AGAIN:
            return
        try:
            served = self._fetch(version)
            if not same_interface(served, self._service.served):
                expected = "the image size and the classes that are served (restart the server for others)"
                raise BrokenContractError(f"{version.name} version {version.number}", expected, "others")
        except PipelineError as error:
            self._refused[version.number] = time.monotonic()
            self._say(f"version {version.number} is refused: {first_line(error)}", "refused")
            return
        before = self._service.served.version
        self._service.take_over(served)
        self._service.metrics.reloaded("taken over")
        self._trouble = ""
        console.echo("serve", f"{served.name} version {served.version} takes over from version {before}")

    def _say(self, trouble: str, result: str = "") -> None:
        if result:
            self._service.metrics.reloaded(result)
        if trouble != self._trouble:
            self._trouble = trouble
            console.echo("serve", f"{trouble}; version {self._service.served.version} is served on")
