"""Prepare the content of the explorer's page: the network, its snapshots and the data, as JSON.

Arrays are encoded as base64 of their bytes, little-endian, in C order. The kernels of snapshots are quantized to int8 with a
scale per unit; the error of a weight is below half a percent of the unit's largest weight. The exported model stays float32.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.data.datasets import Pixels, Split
from pipeline.inference.onnx_model import Dense, Probabilities
from pipeline.training.snapshots import Snapshot, Weights

Floats = npt.NDArray[np.floating[Any]]

PAGE_BYTES = 4_000_000  # of the page; snapshots that do not fit are left out
_OTHERS_BYTES = 300_000  # of it for scripts, styles and images
_INT8_MAX = 127
_BATCH = 10_000  # images per forward pass, which limits the memory for activations

# Activation functions as Keras defines them, by their names in params.yaml.
_ALPHA, _SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer and others, "Self-Normalizing Neural Networks", 2017
ACTIVATIONS: Mapping[str, Callable[[Floats], Floats]] = {
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.2 * z),
    "relu": lambda z: np.maximum(z, 0),
    "selu": lambda z: _SCALE * np.where(z > 0, z, _ALPHA * np.expm1(np.minimum(z, 0))),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "silu": lambda z: z / (1 + np.exp(-z)),
    "softplus": lambda z: np.logaddexp(0, z),
    "tanh": np.tanh,
}


def final(layers: Sequence[Dense]) -> Weights:
    """Return the weights of the exported model in the order of a `Snapshot`."""
    return [array for layer in layers for array in (layer.kernel, layer.bias)]


def quantized(weights: Weights) -> Weights:
    """Return the weights after quantization, as the page computes with them."""
    return [_dequantized(*_quantized(array)) if array.ndim == 2 else array for array in weights]


def _quantized(kernel: Floats) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Quantize a kernel `(inputs, units)` to int8 with a scale per unit `(units,)`."""
    scale = (np.abs(kernel).max(axis=0) / _INT8_MAX).astype(np.float32)
    return np.round(kernel / np.where(scale > 0, scale, 1)).astype(np.int8), scale


def _dequantized(steps: npt.NDArray[np.int8], scale: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(steps * scale, dtype=np.float32)


def forward(weights: Weights, activation: str, images: Pixels) -> Probabilities:
    """Predict images `(n, height, width)` uint8: probabilities `(n, classes)` float32 of the network with these weights."""
    batches = [_forward(weights, activation, images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)]
    return np.concatenate(batches)


def _forward(weights: Weights, activation: str, images: Pixels) -> Probabilities:
    values: Floats = np.reshape(images, (len(images), -1)).astype(np.float32) / np.float32(255)
    with np.errstate(over="ignore"):  # exp may overflow to infinity; dividing by it gives 0, the correct limit
        for kernel, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
            values = ACTIVATIONS[activation](values @ kernel + bias)
    logits = values @ weights[-2] + weights[-1]
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), dtype=np.float32)


def choose(taken: Sequence[Snapshot], end: Weights) -> list[Snapshot]:
    """Choose the snapshots that fit into the page beside the exported model: the random start, and others evenly spaced."""
    parameters = sum(array.size for array in end)
    room = PAGE_BYTES - _OTHERS_BYTES - _encoded_bytes(4 * parameters)
    count = max(1, min(len(taken), room // _encoded_bytes(parameters)))
    indices = np.linspace(0, len(taken) - 1, count).round().astype(int)
    return [taken[index] for index in indices]


def _encoded_bytes(count: int) -> int:
    return -(-count // 3) * 4


def snapshot_json(snapshot: Snapshot, metrics: Mapping[str, float]) -> dict[str, Any]:
    """Encode a snapshot with int8 kernels and its accuracy and loss on the test split."""
    layers = []
    for kernel, bias in zip(snapshot.weights[::2], snapshot.weights[1::2], strict=True):
        steps, scale = _quantized(kernel)
        layers.append({"steps": encoded(steps), "scale": encoded(scale), "bias": encoded(bias.astype("<f4"))})
    return {"epoch": snapshot.epoch, **metrics, "layers": layers}


def end_json(epochs: int, weights: Weights, metrics: Mapping[str, float]) -> dict[str, Any]:
    """Encode the exported model in float32 with its metrics on the test split."""
    pairs = zip(weights[::2], weights[1::2], strict=True)
    layers = [{"kernel": encoded(kernel.astype("<f4")), "bias": encoded(bias.astype("<f4"))} for kernel, bias in pairs]
    return {"epoch": epochs, **metrics, "layers": layers}


def data_json(train: Split, test: Split, classes: int, distorted: Pixels) -> dict[str, Any]:
    """Encode the number of images and the mean image of each class, and examples of augmentation."""
    return {
        "counts": {
            "train": np.bincount(train.labels, minlength=classes).tolist(),
            "test": np.bincount(test.labels, minlength=classes).tolist(),
        },
        "means": encoded(class_means(train, classes)),
        "distorted": {"rows": len(distorted), "columns": distorted.shape[1], "images": encoded(distorted)},
    }


def class_means(split: Split, classes: int) -> Pixels:
    """Compute the mean image of each class, `(classes, height, width)` uint8; black for a class without images."""
    sums = np.zeros((classes, *split.images.shape[1:]))
    for start in range(0, len(split.labels), _BATCH):
        labels, images = split.labels[start : start + _BATCH], split.images[start : start + _BATCH]
        for label in np.unique(labels):
            sums[label] += images[labels == label].sum(axis=0, dtype=np.float64)
    counts = np.maximum(1, np.bincount(split.labels, minlength=classes))
    return np.asarray((sums / counts[:, None, None]).round(), dtype=np.uint8)


def samples(labels: Pixels, each: int) -> npt.NDArray[np.intp]:
    """Return the rows of the first `each` images of each class, alternating between the classes."""
    by_class = [np.flatnonzero(labels == label)[:each] for label in np.unique(labels)]
    return np.array([rows[index] for index in range(each) for rows in by_class if index < len(rows)], dtype=np.intp)


def mistakes(labels: Pixels, probabilities: Probabilities, most: int) -> npt.NDArray[np.intp]:
    """Return the rows of at most `most` wrong predictions, the most confident first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    order = np.argsort(-probabilities[wrong].max(axis=1), kind="stable")
    return wrong[order[:most]]


def images_json(split: Split, rows: npt.NDArray[np.intp]) -> dict[str, Any]:
    return {"images": encoded(split.images[rows]), "labels": split.labels[rows].tolist(), "rows": rows.tolist()}


def encoded(array: npt.NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def page(template: Path, content: Mapping[str, Any]) -> str:
    """Insert the styles, the scripts and the data into the template, and return one self-contained page.

    The template names each file on a line: `<link rel="stylesheet" href="x.css">`, `<script src="x.js"></script>`.
    """
    lines = []
    for line in template.read_text(encoding="utf-8").splitlines():
        stripped = line.strip()
        if stripped.startswith('<link rel="stylesheet" href='):
            line = f"<style>\n{_beside(template, stripped)}</style>"
        elif stripped.startswith("<script src="):
            line = f"<script>\n{_beside(template, stripped)}</script>"
        lines.append(line)
    # `</script` inside the JSON would end its element, so `<` is written as \u003c.
    text = json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return "\n".join(lines).replace("{{data}}", text) + "\n"


def _beside(template: Path, element: str) -> str:
    """Read the file that the last attribute of `element` names."""
    return (template.parent / element.split('"')[-2]).read_text(encoding="utf-8")
