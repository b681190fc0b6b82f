"""Signals (Ctrl-C, SIGTERM, a closed terminal) end a stage within two seconds, whatever it does, and interrupt a command."""

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

EXIT = 130  # 128 + SIGINT, the shells' convention

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_GRACE = 1.2  # seconds for the main thread to clean up, before another thread ends the process
_LAST = 0.4  # seconds for the acts of `last` in that other thread
_PARENT = 0.5  # seconds between two checks whether DVC is alive

_STARTED_BY = os.getppid()  # read at import: DVC may be gone before TensorFlow is imported

_last: list[Callable[[], None]] = []
_fragile = False
_held = 0
_waiting = False


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end.

    A plain KeyboardInterrupt that leaves an `exec` makes Python exit by SIGINT later, and libraries use `exec` at import.
    """


def start(line: str, bounded: bool) -> None:
    """From now on, a signal raises Interrupted in the main thread.

    Args:
        line: printed if another thread has to end the process.
        bounded: end the process in time even if the main thread does not; further signals do not disturb its clean-up.
    """

    stderr = os.dup(2)  # 2 itself may be redirected when the signal comes
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        global _waiting
        again, asked = asked, True
        if bounded and again:  # SIG_IGN could lose the exception of a signal that came before
            return
        if bounded and _fragile:
            _end(line, stderr)
        _waiting = _held > 0 and not again  # only a second signal ends a command
        if not _waiting:
            raise Interrupted

    if bounded:
        _watch(line, stderr)
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # shells ignore SIGINT for background processes, nohup SIGHUP
            signal.signal(number, handle)


def stop() -> None:
    """Ignore signals: the exit code is decided, and while Python exits it restores handlers that would change it."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def fragile() -> Iterator[None]:
    """Exit immediately on a signal in this block instead of raising Interrupted.

    For imports: C++ code that calls Python aborts the process on an exception, or leaves incomplete objects.
    """
    global _fragile
    _fragile = True
    try:
        yield
    finally:
        _fragile = False


def hold() -> None:
    """Defer Interrupted until `release`; in a command, a second signal raises it at once.

    For operations of the main thread that must not be left incomplete. Other threads are not interrupted anyway.
    """
    global _held
    if threading.current_thread() is threading.main_thread():
        _held += 1


def release() -> None:
    """Undo a `hold`.

    Raises:
        Interrupted: a signal came since `hold`.
    """
    global _held, _waiting
    if threading.current_thread() is threading.main_thread():
        _held = max(0, _held - 1)  # operations may have started before the first `hold`
        if _waiting and not _held:
            _waiting = False
            raise Interrupted


def _watch(line: str, stderr: int) -> None:
    """Start a thread that ends the process if Interrupted does not.

    Python runs no signal handler while the main thread is in native code, such as a compilation, and libraries swallow
    exceptions. The end of DVC counts as a signal: a new `dvc repro` must not run beside this stage.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_wait, args=(line, reading, stderr), name="signals", daemon=True).start()


def _wait(line: str, reading: int, stderr: int) -> None:
    parent = _STARTED_BY if "DVC_STAGE" in os.environ else None
    while True:
        if select.select([reading], [], [], _PARENT)[0]:
            if os.read(reading, 1)[0] in _SIGNALS:
                break
        elif parent not in (None, os.getppid()):
            os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE)
    _end(line, stderr)


def _end(line: str, stderr: int) -> NoReturn:
    """Call the acts of `last` in a thread, for a limited time, and exit."""
    acting = threading.Thread(target=_act, daemon=True)
    acting.start()
    acting.join(_LAST)
    os.write(stderr, f"\n{line}\n".encode())
    os._exit(EXIT)


def _act() -> None:
    for act in reversed(_last):  # innermost first: it is the most specific, and time is short
        act()


@contextmanager
def last(act: Callable[[], None]) -> Iterator[None]:
    """Call `act`, in another thread, if that thread has to end the process during this block."""
    _last.append(act)
    try:
        yield
    finally:
        _last.remove(act)
