"""Which processes are alive."""

from pathlib import Path


def is_alive(pid: int) -> bool:
    """Whether there is a process of this id, whichever it is."""
    return started(pid) is not None


def started(pid: int) -> str | None:
    """When the process started; None where there is none, or one that has ended and waits for its parent."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None if Path("/proc/self/stat").exists() else _started_elsewhere(pid)
    return None if status[0] in "ZX" else status[19]  # in ticks since the machine started: setting the clock moves them not


def _started_elsewhere(pid: int) -> str | None:
    """The same, on systems other than Linux."""
    import psutil

    try:
        found = psutil.Process(pid)
        return None if found.status() == psutil.STATUS_ZOMBIE else str(found.create_time())
    except psutil.NoSuchProcess:
        return None
