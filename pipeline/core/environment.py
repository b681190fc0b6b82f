"""Environment variables: fixed for libraries, so that results do not depend on the account, or set for a block of code.

`pipeline/__init__.py` calls `pin` before any other module is imported. tests/core/test_environment.py has a hostile account.
"""

import os
import pwd
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

XLA_FLAGS = "PIPELINE_XLA_FLAGS"  # replaces XLA_FLAGS, for tests and benchmarks: no other software sets it

# A folder of the null device does not exist, and cannot be created: Keras then uses its defaults, and writes no ~/.keras.
# As a file the null device is empty: matplotlib then uses its defaults.
_PINNED = {
    "GX_ANALYTICS_ENABLED": "false",
    "KERAS_BACKEND": "tensorflow",
    "KERAS_HOME": os.devnull,
    "MATPLOTLIBRC": os.devnull,
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MPLBACKEND": "agg",
    "ORT_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
_DEFAULTS = {  # values that you set win
    "GIT_PYTHON_REFRESH": "quiet",  # MLflow without git on the machine
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",  # through the server, whose bucket may be out of reach from here
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # without a server, fail after 3 s instead of 4 min
    "TF_CPP_MIN_LOG_LEVEL": "3",  # log only FATAL; errors are raised as exceptions
}
# Variables that choose another backend, other arithmetic, or another run, experiment or registry, or start up shells.
_DROPPED = re.compile(
    r"(AUTOGRAPH|DNNL|GE|GX|KERAS|MLFLOW_ASYNC_LOGGING|MLFLOW_EXPERIMENT|MLFLOW_SYSTEM_METRICS|NPY|NUMPY|ONEDNN|ORT|PANDAS|SCIPY"
    r"|TF(?!_CPP)|TF2ONNX|XLA)_.*"
    r"|BASH_ENV|ENV|MKL_(CBWR|ENABLE_INSTRUCTIONS)|NVIDIA_TF32_OVERRIDE|OPENBLAS_CORETYPE"
    r"|_?MLFLOW_ACTIVE_MODEL_ID"
    r"|MLFLOW_(ENABLE_ASYNC_LOGGING|ENABLE_SYSTEM_METRICS_LOGGING|REGISTRY_URI|RUN_CONTEXT|RUN_ID|TESTING|TRUNCATE_LONG_VALUES)"
)


def pin() -> None:
    """Fix the environment of this process, which its children inherit. Ends the process if something cannot be fixed."""
    if sys.flags.optimize > 1:  # without docstrings, TensorFlow and Great Expectations cannot be imported
        sys.exit("error: PYTHONOPTIMIZE: expected 0 or 1, found 2 (or python -OO).\nNothing was run. Unset it and rerun.")
    if "error" in os.environ.get("PYTHONWARNINGS", ""):  # it would end every import that warns
        del os.environ["PYTHONWARNINGS"]
        warnings.simplefilter("ignore")
    for name in [name for name in os.environ if _DROPPED.fullmatch(name)]:
        del os.environ[name]
    os.environ.update(_PINNED)
    if flags := os.environ.get(XLA_FLAGS):
        os.environ["XLA_FLAGS"] = flags
    for name, value in (_DEFAULTS | _nameless()).items():
        os.environ.setdefault(name, value)


def _nameless() -> dict[str, str]:
    """What libraries ask for, if the user id has no entry in passwd, as in containers that run with a random one."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return {"HOME": "/nonexistent", "USERNAME": f"uid{os.getuid()}"}
    return {}


@contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables inside the block, and restore them afterwards."""
    previous = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in previous.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
