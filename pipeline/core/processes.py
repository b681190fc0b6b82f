"""Find out whether a process is alive, tell apart two processes that had the same id, and end children with their parent."""

import ctypes
import os
import signal
import sys

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
_prctl = getattr(ctypes.CDLL(None), "prctl", None)  # only Linux has it


def end_with_parent() -> None:
    """Have this process get SIGTERM when its parent ends, however that ends. For `preexec_fn` of a new process."""
    if _prctl:
        _prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


def is_alive(pid: int) -> bool:
    """Whether a process has this id. Zombies do not count."""
    return start_time(pid) is not None


def start_time(pid: int) -> str | None:
    """When the process started, as text that stays the same while it lives; None if there is none or it is a zombie.

    On Linux these are clock ticks since boot: setting the clock shifts both of psutil's times, but not their difference.
    """
    import psutil  # costs start-up time, and most stages look at no process

    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        created = process.create_time()
    except psutil.NoSuchProcess:
        return None
    if sys.platform != "linux":
        return str(created)
    return str(round((created - psutil.boot_time()) * os.sysconf("SC_CLK_TCK")))
