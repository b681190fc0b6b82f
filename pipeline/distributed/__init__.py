"""Sweeps and batch predictions on Ray: on this machine, or on the cluster that RAY_ADDRESS names."""

import os

# Ray reads these variables when it is imported, so they are set before any module of this package imports it.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a warning about future defaults
# 0: Ray's processes listen on 127.0.0.1 only. Nodes of a cluster need the machine's outer address.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "1" if os.environ.get("RAY_ADDRESS") else "0"
