"""What a model is made from, but for the seed: two models of one lineage differ by chance alone."""

import hashlib
import json
from pathlib import Path

from pipeline.core.params import Params

# The code that decides what a trained model is. tests/tracking/test_lineage.py compares it with what train and export import.
SOURCES = (
    "export.py",
    "train.py",
    "data/datasets.py",
    "data/idx.py",
    "inference/convert.py",
    "inference/onnx_model.py",
    "training/augmentation.py",
    "training/fit.py",
    "training/network.py",
)

_PACKAGE = Path(__file__).parent.parent


def digest(fingerprint: str, params: Params) -> str:
    """SHA-256 of the data's `fingerprint`, the parameters of model, train and export without the seed, and the code."""
    content = {
        "data": fingerprint,
        "model": params.model.model_dump(),
        "train": params.train.model_dump(exclude={"seed"}),
        "export": params.export.model_dump(),
        "code": {name: hashlib.sha256((_PACKAGE / name).read_bytes()).hexdigest() for name in SOURCES},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
