"""Start Ray on this machine, or join the cluster that RAY_ADDRESS names."""

import logging
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray._private import services
from ray.util import get_node_ip_address

from pipeline.core.errors import first_line
from pipeline.distributed.errors import ClusterError

_PACKAGE = Path(__file__).parent.parent
_CONNECT_SECONDS = 10
_STORE_BYTES = 1_000_000_000  # of memory that the tasks on this machine share
_LOCALHOST = "127.0.0.1"
_TOKEN = secrets.token_hex()  # only this process and the processes that it starts know it


@contextmanager
def connected() -> Iterator[int]:
    """Start Ray on this machine, or join the cluster at RAY_ADDRESS; yield the number of machines.

    A Ray started here listens on 127.0.0.1 only, requires a token that only this process has, and ends with the block. On a
    cluster, the cluster's own settings decide where this process listens and who may connect. Ray copies the code of this
    package to the nodes; install the libraries that it imports there. This process must run on one of the nodes: with Ray's
    client (ray://), the search would run on the head node and leave its results and its MLflow store there.

    Raises:
        ClusterError: there is no such cluster, or this machine does not belong to it.
    """
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address := os.environ.get("RAY_ADDRESS"):
        _check(address)
        try:
            ray.init(runtime_env={"py_modules": [str(_PACKAGE)]}, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            raise ClusterError(address, first_line(error)) from error
    else:
        _require_localhost_and_token()
        services.start_api_server = _no_api_server
        # "local": without it Ray would join a cluster that someone else started on this machine.
        ray.init("local", include_dashboard=False, object_store_memory=_STORE_BYTES, **quiet)
    try:
        yield sum(node["Alive"] for node in ray.nodes())
    finally:
        ray.shutdown()


def _no_api_server(*_: Any, **__: Any) -> tuple[None, None]:
    """Replaces the function of Ray that starts its dashboard's server, which without a dashboard only serves usage statistics.

    Even if these are disabled, it asks the metadata services of Azure, Google Cloud and AWS where it runs.
    """
    return None, None


def _require_localhost_and_token() -> None:
    """Make the Ray that starts next listen on 127.0.0.1 only and refuse requests without the token.

    pipeline.distributed sets the address. `ray.init(_node_ip_address="127.0.0.1")` does not: Ray replaces it by the outer
    address and then listens on all addresses.

    Raises:
        RuntimeError: Ray was imported before pipeline.distributed, and would listen on another address.
    """
    # Unset, the mode is "token". Without RAY_AUTH_TOKEN, Ray would keep one token for all runs in the home folder.
    os.environ.pop("RAY_AUTH_MODE", None)
    os.environ["RAY_AUTH_TOKEN"] = _TOKEN
    if (found := get_node_ip_address()) != _LOCALHOST:
        raise RuntimeError(f"expected Ray to use {_LOCALHOST}, found {found}: import pipeline.distributed before ray")


def _check(address: str) -> None:
    """Raise ClusterError if nothing listens at `address`; Ray would retry silently for minutes."""
    if "://" in address:
        raise ClusterError(address, "an address of Ray's client")
    host, _, port = address.rpartition(":")
    if not host:  # "auto" or "local"
        return
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise ClusterError(address, str(error)) from error
