"""What the explorer's page holds: the network, its snapshots and the data, in a form that a browser reads.

Arrays become base64 text of their bytes, little-endian, in C order. Snapshots are shown and not served, so their kernels are
rounded to int8 with a scale a unit, which moves a weight by less than half a percent of its unit's largest; the end is the
exported model's own float32.
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

PAGE_BYTES = 4_000_000  # of the page, which as many snapshots as fit are put into
_OTHERS_BYTES = 300_000  # of it: the script, the styles and the pictures
_INT8_MAX = 127
_BATCH = 10_000  # images whose activations are in memory at once

# As Keras defines them, by the names that params.yaml takes.
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
    """The exported model's weights, as `Snapshot` has them."""
    return [array for layer in layers for array in (layer.kernel, layer.bias)]


def rounded(weights: Weights) -> Weights:
    """The weights as the page has them: each unit's kernel in 255 steps."""
    return [_dequantised(*_quantised(array)) if array.ndim == 2 else array for array in weights]


def _quantised(kernel: Floats) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """A kernel `(inputs, units)` as int8 and the scale of each unit."""
    scale = (np.abs(kernel).max(axis=0) / _INT8_MAX).astype(np.float32)
    return np.round(kernel / np.where(scale > 0, scale, 1)).astype(np.int8), scale


def _dequantised(steps: npt.NDArray[np.int8], scale: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(steps * scale, dtype=np.float32)


def forward(weights: Weights, activation: str, images: Pixels) -> Probabilities:
    """Images `(n, height, width)` uint8 -> probabilities `(n, classes)` float32 of the network with these weights."""
    parts = [_forward(weights, activation, images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)]
    return np.concatenate(parts)


def _forward(weights: Weights, activation: str, images: Pixels) -> Probabilities:
    values: Floats = np.reshape(images, (len(images), -1)).astype(np.float32) / np.float32(255)
    with np.errstate(over="ignore"):  # exp of much is infinite, and what is divided by it is 0, as it should be
        for kernel, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
            values = ACTIVATIONS[activation](values @ kernel + bias)
    logits = values @ weights[-2] + weights[-1]
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), dtype=np.float32)


def choose(taken: Sequence[Snapshot], end: Weights) -> list[Snapshot]:
    """The snapshots that fit into the page beside the end: the random start always, and the others evenly."""
    parameters = sum(array.size for array in end)
    room = PAGE_BYTES - _OTHERS_BYTES - _encoded_bytes(4 * parameters)
    count = max(1, min(len(taken), room // _encoded_bytes(parameters)))
    places = np.linspace(0, len(taken) - 1, count).round().astype(int)
    return [taken[place] for place in places]


def _encoded_bytes(count: int) -> int:
    return -(-count // 3) * 4


def snapshot_json(snapshot: Snapshot, figures: Mapping[str, float]) -> dict[str, Any]:
    """A snapshot for the page, its kernels in int8, with the accuracy and the loss on the test split."""
    layers = []
    for kernel, bias in zip(snapshot.weights[::2], snapshot.weights[1::2], strict=True):
        steps, scale = _quantised(kernel)
        layers.append({"steps": encoded(steps), "scale": encoded(scale), "bias": encoded(bias.astype("<f4"))})
    return {"epoch": snapshot.epoch, **figures, "layers": layers}


def end_json(epochs: int, weights: Weights, figures: Mapping[str, float]) -> dict[str, Any]:
    """The exported model for the page, in full."""
    pairs = zip(weights[::2], weights[1::2], strict=True)
    layers = [{"kernel": encoded(kernel.astype("<f4")), "bias": encoded(bias.astype("<f4"))} for kernel, bias in pairs]
    return {"epoch": epochs, **figures, "layers": layers}


def data_json(train: Split, test: Split, classes: int, distorted: Pixels) -> dict[str, Any]:
    """How many images there are of each class, the mean image of each, and distorted copies of some."""
    return {
        "counts": {
            "train": np.bincount(train.labels, minlength=classes).tolist(),
            "test": np.bincount(test.labels, minlength=classes).tolist(),
        },
        "means": encoded(class_means(train, classes)),
        "distorted": {"rows": len(distorted), "columns": distorted.shape[1], "images": encoded(distorted)},
    }


def class_means(split: Split, classes: int) -> Pixels:
    """The mean image of each class `(classes, height, width)` uint8, black where a class has none."""
    sums = np.zeros((classes, *split.images.shape[1:]))
    for start in range(0, len(split.labels), _BATCH):
        labels, images = split.labels[start : start + _BATCH], split.images[start : start + _BATCH]
        for place in np.unique(labels):
            sums[place] += images[labels == place].sum(axis=0, dtype=np.float64)
    counts = np.maximum(1, np.bincount(split.labels, minlength=classes))
    return np.asarray((sums / counts[:, None, None]).round(), dtype=np.uint8)


def samples(labels: Pixels, each: int) -> npt.NDArray[np.intp]:
    """The rows of the first `each` images of each class, in turn: first one of each class, then another of each."""
    places = [np.flatnonzero(labels == name)[:each] for name in np.unique(labels)]
    return np.array([place[turn] for turn in range(each) for place in places if turn < len(place)], dtype=np.intp)


def mistakes(labels: Pixels, probabilities: Probabilities, most: int) -> npt.NDArray[np.intp]:
    """The rows that the network decides wrongly, the surest first, `most` at most."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    order = np.argsort(-probabilities[wrong].max(axis=1), kind="stable")
    return wrong[order[:most]]


def images_json(split: Split, rows: npt.NDArray[np.intp]) -> dict[str, Any]:
    return {"images": encoded(split.images[rows]), "labels": split.labels[rows].tolist(), "rows": rows.tolist()}


def encoded(array: npt.NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def page(template: Path, content: Mapping[str, Any]) -> str:
    """Put the styles, the scripts and the data into the template: one file that needs no other.

    `template` names them, one a line: `<link rel="stylesheet" href="x.css">`, `<script src="x.js"></script>`.
    """
    lines = []
    for line in template.read_text(encoding="utf-8").splitlines():
        stripped = line.strip()
        if stripped.startswith('<link rel="stylesheet" href='):
            line = f"<style>\n{_beside(template, stripped)}</style>"
        elif stripped.startswith("<script src="):
            line = f"<script>\n{_beside(template, stripped)}</script>"
        lines.append(line)
    # An element of JSON ends at the first `</script`, wherever that stands; JSON may write the sign `<` as \u003c.
    text = json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return "\n".join(lines).replace("{{data}}", text) + "\n"


def _beside(template: Path, element: str) -> str:
    """The text of the file that `element` names in its second attribute in quotation marks, or in its only one."""
    return (template.parent / element.split('"')[-2]).read_text(encoding="utf-8")
