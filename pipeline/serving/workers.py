"""Run the server in several processes that share one socket and one page of metrics."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.core import console
from pipeline.serving.errors import WorkersError

SHARED = "PROMETHEUS_MULTIPROC_DIR"  # set it before metrics.py is imported

_STOP_SECONDS = 12  # the server itself takes at most 10
_YOUNG_SECONDS = 10  # a worker that ends earlier would end again
_TRIES = 3
_PACKAGES = str(Path(__file__).parents[2])  # where this package lies: a checkout, or site-packages


class Workers:
    """The processes, and the pipe by which they notice that this one is gone."""

    def __init__(self, command: list[str], count: int, bound: socket.socket) -> None:
        self._command, self._count, self._bound = command, count, bound
        self._reading, self._writing = os.pipe()
        self._processes: dict[int, tuple[subprocess.Popen[bytes], float]] = {}
        self._short_lives = 0

    def run(self) -> int:
        """Keep `count` workers alive until a signal; return the exit code.

        Raises:
            WorkersError: they end as soon as they start.
        """
        with TemporaryDirectory(prefix="serve-metrics-") as folder:
            os.environ[SHARED] = folder
            try:
                if code := self._first():
                    return code
                for index in range(1, self._count):
                    self._start(index)
                while True:
                    self._revive()
                    time.sleep(0.2)
            except KeyboardInterrupt:
                return 0
            finally:
                self._stop()

    def _first(self) -> int:
        """Start the first worker, and wait until it serves. If it ends, it said why: return its exit code."""
        ready, told = os.pipe()
        os.set_inheritable(told, True)
        self._start(0, told)
        os.close(told)
        with os.fdopen(ready, "rb") as pipe:
            served = pipe.read(1)
        return 0 if served else self._processes[0][0].wait()

    def _start(self, index: int, told: int | None = None) -> None:
        descriptors = [self._bound.fileno(), self._reading, *([told] if told is not None else [])]
        names = ["--socket", "--parent", "--ready"]
        passed = [part for pair in zip(names, map(str, descriptors), strict=False) for part in pair]
        quiet = ["--quiet"] if index else []
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([_PACKAGES, *filter(None, [os.environ.get("PYTHONPATH")])])}
        process = subprocess.Popen([*self._command, *passed, *quiet], pass_fds=descriptors, env=environment)
        self._processes[index] = (process, time.monotonic())

    def _revive(self) -> None:
        """Start workers again that have ended."""
        from pipeline.serving import metrics

        for index, (process, since) in list(self._processes.items()):
            if process.poll() is None:
                continue
            metrics.forget(process.pid)
            self._short_lives = self._short_lives + 1 if time.monotonic() - since < _YOUNG_SECONDS else 0
            if self._short_lives >= _TRIES:
                raise WorkersError(process.returncode)
            console.echo("serve", f"worker {process.pid} ended with exit code {process.returncode}; another takes its place")
            self._start(index)

    def _stop(self) -> None:
        for process, _ in self._processes.values():
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        for process, _ in self._processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            process.kill()
            process.wait()
        os.close(self._reading)
        os.close(self._writing)


def end_with_parent(descriptor: int) -> None:
    """Send SIGTERM to this process when the other end of the pipe is closed, because its parent is gone."""
    import threading

    def wait() -> None:
        os.read(descriptor, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def command(arguments: list[str]) -> list[str]:
    """The command of a worker. With -P, a module `pipeline` in the current folder is not taken for this one."""
    return [sys.executable, "-P", "-m", "pipeline.serve", *arguments]
