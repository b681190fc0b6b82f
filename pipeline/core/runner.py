"""Who runs a run: a process of this checkout on this machine; and whether one that ran another is gone for good."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_TAG = "runner."


class Runner(NamedTuple):
    """A process, as the tags of the run that it runs tell of it."""

    clone: str  # the folder of the default store of its checkout, whichever store it uses
    host: str
    machine: str  # stays when the machine starts anew; empty where the machine has no such name
    boot: str
    namespace: str  # process ids count within it: a container has its own
    pid: str
    started: str  # with the id it names a process for as long as the machine is up

    def tags(self) -> dict[str, str]:
        return {f"{_TAG}{name}": value for name, value in self._asdict().items()}


HOST = f"{_TAG}host"


def this_process(store: Path) -> Runner:
    """Who runs what this process starts, in the checkout whose default store is `store`."""
    return Runner(
        clone=str(store.resolve()),
        host=socket.gethostname(),
        machine=_read("/etc/machine-id"),
        boot=_read("/proc/sys/kernel/random/boot_id"),
        namespace=_namespace(),
        pid=str(os.getpid()),
        started=_started(os.getpid()) or "",
    )


def of(tags: Mapping[str, str]) -> Runner | None:
    """The runner that a run's tags name; None of a run without them."""
    values = [tags.get(f"{_TAG}{name}") for name in Runner._fields]
    return Runner(*(value for value in values if value is not None)) if None not in values else None


def is_gone(other: Runner, here: Runner) -> bool:
    """Whether `other` was a process of the checkout and the machine of `here`, and is no more.

    False wherever this cannot be told, as of another machine's or container's.
    """
    if (other.clone, other.host) != (here.clone, here.host):
        return False
    if other.boot != here.boot:
        return bool(here.machine) and other.machine == here.machine
    return other.namespace == here.namespace and _started(int(other.pid)) != other.started


def is_alive(pid: int) -> bool:
    """Whether there is a process of this id, whichever it is."""
    return _started(pid) is not None


def _started(pid: int) -> str | None:
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


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
