"""contract.json: the input and output of the model files, with test vectors that a consumer can run."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.data.datasets import Pixels
from pipeline.inference.onnx_model import INPUT, OUTPUT, Probabilities

_TOLERANCE = 1e-4  # of a probability: rounding differs between processors


def build(
    files: Mapping[str, str], opset: int, ir_version: int, classes: Sequence[str], images: Pixels, expected: Probabilities
) -> dict[str, Any]:
    """The content of contract.json.

    Args:
        files: the SHA-256 of each model file, by name.
        opset, ir_version: of the ONNX files.
        classes: their names, in the order of the probabilities.
        images: from `first_images`.
        expected: the probabilities of `images` by model.onnx, `(n, classes)`.
    """
    _, height, width = images.shape
    return {
        "files": dict(files),
        "format": {"onnx_opset": opset, "onnx_ir_version": ir_version},
        "input": {
            "name": INPUT,
            "dtype": "uint8",
            "shape": ["batch", height, width],
            "range": [0, 255],
            "ground": "0 is black",
        },
        "output": {"name": OUTPUT, "dtype": "float32", "shape": ["batch", len(classes)], "range": [0, 1], "rows_sum_to": 1},
        "classes": list(classes),
        "test_vectors": {
            "from": "the training split",
            "tolerance": _TOLERANCE,
            INPUT: images.tolist(),
            OUTPUT: [[round(float(value), 7) for value in row] for row in expected],
        },
    }


def first_images(images: Pixels, labels: Pixels, count: int = 3) -> Pixels:
    """The first image of each of `count` classes, `(count, height, width)`; fewer if there are fewer classes."""
    _, first = np.unique(labels, return_index=True)
    return np.asarray(images[np.sort(first)[:count]])
