"""The owner of a run: the process that logs it. Tells whether the owner of another run is gone for good."""

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pipeline.core.processes import start_time

_TAG = "mlflow.pipeline.owner"  # MLflow's UI shows no tags that begin with "mlflow."
_EARLIER_TAG = "runner."  # earlier versions set one tag per field


class RunOwner(NamedTuple):
    """A process, as the tags of its run describe it."""

    clone: str  # the folder of the checkout's default store, even if the run is in another store
    host: str
    machine: str  # /etc/machine-id, which survives a reboot; empty if the system has none
    boot: str  # changes with each boot
    namespace: str  # of process ids: each container has its own
    pid: str
    started: str  # `processes.start_time`: together with pid it is unique until the next boot

    def tags(self) -> dict[str, str]:
        return {_TAG: json.dumps(self._asdict())}


def this_process(store: Path) -> RunOwner:
    """This process as the owner of runs, in the checkout with the default store `store`."""
    return RunOwner(
        clone=str(store.resolve()),
        host=socket.gethostname(),
        machine=_read("/etc/machine-id"),
        boot=_read("/proc/sys/kernel/random/boot_id"),
        namespace=_namespace(),
        pid=str(os.getpid()),
        started=start_time(os.getpid()) or "",
    )


def from_tags(tags: Mapping[str, str]) -> RunOwner | None:
    """The owner that a run's tags describe, also those of an earlier version; None if they are incomplete."""
    earlier = {name: tags[f"{_EARLIER_TAG}{name}"] for name in RunOwner._fields if f"{_EARLIER_TAG}{name}" in tags}
    content = json.loads(tags[_TAG]) if _TAG in tags else earlier
    return RunOwner(**content) if content.keys() == set(RunOwner._fields) else None


def is_gone(other: RunOwner, here: RunOwner) -> bool:
    """Whether `other` was a process of the same checkout and machine as `here` and has ended.

    False if that is uncertain, for example for a process in another container.
    """
    if (other.clone, other.host) != (here.clone, here.host):
        return False
    if other.boot != here.boot:
        return bool(here.machine) and other.machine == here.machine
    return other.namespace == here.namespace and start_time(int(other.pid)) != other.started


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
