"""MNIST from raw files to a served ONNX model. `python -m pipeline` lists the verbs; dvc.yaml runs some of them as stages.

Each verb is a module in this folder, and imports from the packages beside it. No module imports a verb.
"""

import os
import signal
import sys
from types import FrameType

# Libraries read these variables at import, so they are set before any other module is imported. Values that you set win.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow: log only FATAL; errors are raised as exceptions
os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # overrides ~/.keras/keras.json
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # without a server, fail after 3 s instead of 4 min
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # MLflow without git on the machine


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"\ninterrupted before the start.\n")
    os._exit(130)


# `python -m pipeline.<verb>` imports modules for up to a second. A signal during that time would print a traceback.
# After that, `pipeline.core.signals` handles signals.
if sys.argv[:1] == ["-m"]:
    for _number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(_number) != signal.SIG_IGN:
            signal.signal(_number, _leave)
