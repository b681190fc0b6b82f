"""Ray: on this machine alone, or the cluster that RAY_ADDRESS names."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Said before ray is imported, which reads it then: no reports home, and no guess that this is the last Ray of its kind.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray

_PACKAGE = Path(__file__).parent.parent
_STORE_BYTES = 1_000_000_000  # of memory for what trials and tasks share, on a machine of one's own


@contextmanager
def connected() -> Iterator[int]:
    """Start Ray on this machine, or join the cluster at RAY_ADDRESS; inside, how many machines it has.

    What it starts listens on 127.0.0.1 and ends with the block. The nodes of a cluster get this package's code, and need the
    libraries that it imports.
    """
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(runtime_env={"py_modules": [str(_PACKAGE)]}, **quiet)
    else:
        ray.init(include_dashboard=False, object_store_memory=_STORE_BYTES, _node_ip_address="127.0.0.1", **quiet)
    try:
        yield sum(node["Alive"] for node in ray.nodes())
    finally:
        ray.shutdown()
