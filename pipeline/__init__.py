"""MNIST from raw files to a served ONNX model: `python -m pipeline.<verb>`, run as stages by dvc.yaml.

Verbs stand in this folder, what they share in `pipeline.core`. Verbs import nouns, never verbs; nouns never import verbs.
"""

import os

# Libraries read these when they are first imported, so they are set here, which every process passes first.
# `setdefault` leaves the last word to the person who starts the process.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow: nothing below FATAL; errors arrive as exceptions
os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # whatever ~/.keras/keras.json says
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # 3 seconds on a server that is not there; 4 minutes by default
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # MLflow without git on the machine
