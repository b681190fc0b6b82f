"""Ctrl-C and SIGTERM: whatever the main thread of a stage is at, the process ends soon, and says so."""

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

EXIT = 130  # 128 + SIGINT, as shells count it

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_GRACE = 1.2  # seconds to unwind in, before the process is ended from the side
_LAST = 0.4  # seconds for what has to be done even then
_PARENT = 0.5  # seconds between two looks at whether DVC is still there

_STARTED_BY = os.getppid()  # asked at once: DVC may be gone before TensorFlow is imported

_last: list[Callable[[], None]] = []
_fragile = False
_held = 0
_waiting = False


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end.

    A class of its own because Python, where a plain KeyboardInterrupt came out of an `exec`, which libraries run at import,
    ends the process by SIGINT later, whatever exit code it was given.
    """


def start(line: str, bounded: bool) -> None:
    """Raise Interrupted in the main thread at a signal, from now on.

    Args:
        line: what a person reads where the process has to be ended from the side.
        bounded: the process ends in time, whatever the main thread is at; further signals are not to disturb its cleaning up.
    """

    stderr = os.dup(2)  # which may be held back when the time comes
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        global _waiting
        again, asked = asked, True
        if bounded and again:  # not SIG_IGN: Python complains of a signal that came before that, and may lose what is raised
            return
        if bounded and _fragile:
            _end(line, stderr)
        _waiting = _held > 0 and not again  # nothing else ends a process that is not bounded
        if not _waiting:
            raise Interrupted

    if bounded:
        _watch(line, stderr)
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as shells leave SIGINT to what runs in the background
            signal.signal(number, handle)


def stop() -> None:
    """Ignore signals: the exit code is settled, and Python puts back what would end the process by them while it exits."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def fragile() -> Iterator[None]:
    """Have a signal end the process from the side, inside, and at once: nothing is raised.

    For imports: C++ that calls Python aborts the process at an exception, or leaves half-made objects that complain.
    """
    global _fragile
    _fragile = True
    try:
        yield
    finally:
        _fragile = False


def hold() -> None:
    """Have a signal raise nothing until `release`, but a second one where the process is not bounded.

    For what must not be left half done. Of the main thread: in others no signal is raised.
    """
    global _held
    if threading.current_thread() is threading.main_thread():
        _held += 1


def release() -> None:
    """Undo a `hold`.

    Raises:
        Interrupted: a signal came meanwhile.
    """
    global _held, _waiting
    if threading.current_thread() is threading.main_thread():
        _held = max(0, _held - 1)  # what began before anybody held
        if _waiting and not _held:
            _waiting = False
            raise Interrupted


def _watch(line: str, stderr: int) -> None:
    """End the process from the side where Interrupted does not get it to end.

    Python runs no handler while the main thread is in native code, such as a compilation, and libraries swallow exceptions:
    a thread of its own gets to know of the signal as well. Under DVC it is as good as a signal when DVC is gone: whoever
    starts DVC anew is not to meet this stage at work.
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
    """End the process, after what has to be done even then."""
    acting = threading.Thread(target=_act, daemon=True)
    acting.start()
    acting.join(_LAST)
    os.write(stderr, f"\n{line}\n".encode())
    os._exit(EXIT)


def _act() -> None:
    for act in reversed(_last):  # the innermost knows most, and time is short
        act()


@contextmanager
def last(act: Callable[[], None]) -> Iterator[None]:
    """Have `act` called, in another thread, if the process has to be ended from the side while inside."""
    _last.append(act)
    try:
        yield
    finally:
        _last.remove(act)
