"""contract.json: the input and output of the model files, with test vectors that a consumer can run."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.core.params import Layout
from pipeline.data.datasets import Pixels
from pipeline.inference.onnx_model import INPUT, OUTPUT, Probabilities

# The first ONNX Runtime that loads an opset: https://onnxruntime.ai/docs/reference/compatibility.html. 1.10, of December 2021,
# is the oldest that the files were run with.
_OLDEST_RUNTIME = {13: "1.10", 14: "1.10", 15: "1.10", 16: "1.11", 17: "1.12", 18: "1.14"}


class ModelFile(NamedTuple):
    """What a consumer can check of a model file."""

    sha256: str
    probabilities: Probabilities  # of the test images, (n, classes)
    tolerance: float  # of a probability, from `tolerance.derive`


def build(
    files: Mapping[str, ModelFile], opset: int, ir_version: int, classes: Sequence[str], images: Pixels, layout: Layout
) -> dict[str, Any]:
    """The content of contract.json.

    Args:
        files: by name, model.onnx first.
        opset, ir_version: of the ONNX files.
        classes: their names, in the order of the probabilities.
        images: from `first_images`.
        layout: of the images, as `predict` brings pictures to it.
    """
    _, height, width = images.shape
    float32, *others = files
    return {
        "files": {name: file.sha256 for name, file in files.items()},
        "format": {
            "onnx_opset": opset,
            "onnx_ir_version": ir_version,
            "oldest_onnxruntime": _OLDEST_RUNTIME[opset],
        },
        "input": {
            "name": INPUT,
            "dtype": "uint8",
            "shape": ["batch", height, width],
            "range": [0, 255],
            "ground": "0 is black",
            "layout": layout,
        },
        "output": {"name": OUTPUT, "dtype": "float32", "shape": ["batch", len(classes)], "range": [0, 1], "rows_sum_to": 1},
        "classes": list(classes),
        "test_vectors": {
            "from": "the training split",
            INPUT: images.tolist(),
            **_expected(files[float32]),
            **{name: _expected(files[name]) for name in others},
        },
    }


def _expected(file: ModelFile) -> dict[str, Any]:
    return {
        "tolerance": file.tolerance,
        OUTPUT: [[round(float(value), 9) for value in row] for row in file.probabilities],
    }


def first_images(images: Pixels, labels: Pixels, count: int = 3) -> Pixels:
    """The first image of each of `count` classes, `(count, height, width)`; fewer if there are fewer classes."""
    _, first = np.unique(labels, return_index=True)
    return np.asarray(images[np.sort(first)[:count]])
