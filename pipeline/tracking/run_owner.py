"""Who runs a run: a process of this checkout on this machine; and whether one that ran another is gone for good."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pipeline.core.processes import started

_TAG = "runner."


class RunOwner(NamedTuple):
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


def this_process(store: Path) -> RunOwner:
    """Who runs what this process starts, in the checkout whose default store is `store`."""
    return RunOwner(
        clone=str(store.resolve()),
        host=socket.gethostname(),
        machine=_read("/etc/machine-id"),
        boot=_read("/proc/sys/kernel/random/boot_id"),
        namespace=_namespace(),
        pid=str(os.getpid()),
        started=started(os.getpid()) or "",
    )


def of(tags: Mapping[str, str]) -> RunOwner | None:
    """The runner that a run's tags name; None of a run without them."""
    values = [tags.get(f"{_TAG}{name}") for name in RunOwner._fields]
    return RunOwner(*(value for value in values if value is not None)) if None not in values else None


def is_gone(other: RunOwner, here: RunOwner) -> bool:
    """Whether `other` was a process of the checkout and the machine of `here`, and is no more.

    False wherever this cannot be told, as of another machine's or container's.
    """
    if (other.clone, other.host) != (here.clone, here.host):
        return False
    if other.boot != here.boot:
        return bool(here.machine) and other.machine == here.machine
    return other.namespace == here.namespace and started(int(other.pid)) != other.started


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
