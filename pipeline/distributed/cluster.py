"""Ray: on this machine alone, or the cluster that RAY_ADDRESS names."""

import logging
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Said before ray is imported, which reads it then: no reports home, and no guess that this is the last Ray of its kind.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray._private import ray_constants

from pipeline.core.errors import first_line
from pipeline.distributed.errors import ClusterError

_PACKAGE = Path(__file__).parent.parent
_SECONDS = 10  # for the cluster's head to answer
_STORE_BYTES = 1_000_000_000  # of memory for what trials and tasks share, on a machine of one's own
_TOKEN = secrets.token_hex()  # of what this process starts


@contextmanager
def connected() -> Iterator[int]:
    """Start Ray on this machine, or join the cluster at RAY_ADDRESS; inside, how many machines it has.

    What it starts listens on 127.0.0.1 alone, does nothing for who has not this process's token, and ends with the block. On a
    cluster this process listens as the nodes do, and the cluster says who is answered. The nodes of a cluster get this
    package's code, and need the libraries that it imports. This process has to be on one of them: Ray's client (ray://) would
    run the search on the cluster's head, and its results and MLflow store would be there.

    Raises:
        ClusterError: there is no such cluster, or this machine is not of it.
    """
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address := os.environ.get("RAY_ADDRESS"):
        _check(address)
        try:
            ray.init(runtime_env={"py_modules": [str(_PACKAGE)]}, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            raise ClusterError(address, first_line(error)) from error
    else:
        with _alone():
            # "local", or it would join a cluster that someone else has started on this machine.
            ray.init("local", include_dashboard=False, object_store_memory=_STORE_BYTES, **quiet)
    try:
        yield sum(node["Alive"] for node in ray.nodes())
    finally:
        ray.shutdown()


@contextmanager
def _alone() -> Iterator[None]:
    """Have the Ray that is started inside listen on 127.0.0.1 alone, and do nothing for who has not its token.

    Ray takes `_node_ip_address="127.0.0.1"` for the machine's outer address, and then listens on all. Where it is not to make
    clusters, as on macOS, it takes 127.0.0.1 for the machine's. The variable that says so (RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER)
    is read as ray is imported, which others may have done before; and a cluster needs the outer address.
    """
    # Where it is unset Ray asks for a token, from a file in the home that all runs would share but for the variable.
    os.environ.pop("RAY_AUTH_MODE", None)
    os.environ["RAY_AUTH_TOKEN"] = _TOKEN
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _check(address: str) -> None:
    """Raise ClusterError where nothing answers at `address`: Ray would ask again and again, for minutes, without a word."""
    if "://" in address:
        raise ClusterError(address, "an address of Ray's client")
    host, _, port = address.rpartition(":")
    if not host:  # auto, or local
        return
    try:
        socket.create_connection((host, int(port)), timeout=_SECONDS).close()
    except (OSError, ValueError) as error:
        raise ClusterError(address, str(error)) from error
