"""MNIST from raw files to a served ONNX model: `python -m pipeline.<verb>`, run as stages by dvc.yaml.

Verbs stand in this folder, what they share in `pipeline.core`. Verbs import nouns, never verbs; nouns never import verbs.
"""

import os
import signal
import sys
from types import FrameType

# Libraries read these when they are first imported, so they are set here, which every process passes first.
# `setdefault` leaves the last word to the person who starts the process.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow: nothing below FATAL; errors arrive as exceptions
os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # whatever ~/.keras/keras.json says
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # 3 seconds on a server that is not there; 4 minutes by default
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # MLflow without git on the machine


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"\ninterrupted before anything was begun.\n")
    os._exit(130)


# `python -m pipeline.<verb>` imports for up to a second before it does anything, of which Python would show a traceback.
# `pipeline.core.signals` takes over from there.
if sys.argv[:1] == ["-m"]:
    for _number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(_number) != signal.SIG_IGN:
            signal.signal(_number, _leave)
