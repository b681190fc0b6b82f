"""Encode the network, its snapshots and the data for the explorer's page, and write the page.

Arrays are encoded as base64 of their bytes, little-endian, in C order.
"""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core.params import Params
from pipeline.data.datasets import Pixels, Split
from pipeline.explorer import network
from pipeline.inference.onnx_model import Probabilities
from pipeline.training.snapshots import Snapshot, Weights

TEMPLATE = Path(__file__).parent / "web" / "index.html"
PAGE_BYTES = 4_000_000  # of the page; snapshots that do not fit are left out
MOST_BYTES = 16_000_000  # of the exported model, one snapshot and the images; a larger page is replaced by a note
_OTHERS_BYTES = 300_000  # of it for scripts, styles and images
_BATCH = 10_000  # images summed at a time, which limits the memory for their float64 copies


def settings_json(params: Params, manifest: Mapping[str, Any], shape: Sequence[int]) -> dict[str, Any]:
    """Encode the names and numbers of the data set and the network; `shape` is that of an image."""
    classes = params.fetch.classes
    return {
        "dataset": manifest["dataset"],
        "licence": manifest["licence"],
        "classes": list(classes),
        "noun": "digit" if all(name.isdigit() for name in classes) else "class",
        "shape": list(shape),
        "hidden": list(params.model.hidden_units),
        "activation": params.model.activation,
        "step": params.explain.step,
    }


def choose(taken: Sequence[Snapshot], exported: Weights) -> list[Snapshot]:
    """Choose the snapshots that fit into the page beside the exported model: the random start, and others evenly spaced."""
    parameters = sum(array.size for array in exported)
    available = PAGE_BYTES - _OTHERS_BYTES - _encoded_bytes(4 * parameters)
    count = max(1, min(len(taken), available // _encoded_bytes(parameters)))
    indices = np.linspace(0, len(taken) - 1, count).round().astype(int)
    return [taken[index] for index in indices]


def least_bytes(exported: Weights, images: int, pixels: int) -> int:
    """Estimate the smallest page: the exported model, one snapshot, and `images` of so many pixels."""
    parameters = sum(array.size for array in exported)
    return _OTHERS_BYTES + _encoded_bytes(4 * parameters) + _encoded_bytes(parameters) + _encoded_bytes(images * pixels)


def _encoded_bytes(count: int) -> int:
    return -(-count // 3) * 4


def snapshots_json(taken: Sequence[Snapshot], exported: Weights, activation: str, test: Split) -> list[dict[str, Any]]:
    """Encode the snapshots that fit, with int8 kernels and their accuracy and loss on the test split."""
    return [
        {
            "epoch": snapshot.epoch,
            **network.evaluate(network.round_trip(snapshot.weights), activation, test),
            "layers": [_quantized_layer(kernel, bias) for kernel, bias in _layers(snapshot.weights)],
        }
        for snapshot in choose(taken, exported)
    ]


def _layers(weights: Weights) -> list[tuple[Any, Any]]:
    return list(zip(weights[::2], weights[1::2], strict=True))


def _quantized_layer(kernel: network.Floats, bias: network.Floats) -> dict[str, str]:
    steps, scale = network.quantize(kernel)
    return {"steps": encoded(steps), "scale": encoded(scale), "bias": encoded(bias.astype("<f4"))}


def exported_json(weights: Weights, epochs: int, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Encode the exported model in float32, with its accuracy and loss from the metrics of stage evaluate."""
    layers = [
        {"kernel": encoded(kernel.astype("<f4")), "bias": encoded(bias.astype("<f4"))} for kernel, bias in _layers(weights)
    ]
    return {"epoch": epochs, "accuracy": metrics["accuracy"], "loss": metrics["log_loss"], "layers": layers}


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


def render(content: Mapping[str, Any], template: Path = TEMPLATE) -> str:
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


def note(text: str) -> str:
    """Return a page that shows `text` instead of the network."""
    head = '<meta charset="utf-8"><title>No explorer</title><body style="font-family: sans-serif; margin: 3em">'
    return f'<!DOCTYPE html>\n<html lang="en">{head}<h1>No explorer for this network</h1><p>{html.escape(text)}</p>\n'


def _beside(template: Path, element: str) -> str:
    """Read the file that the last attribute of `element` names."""
    return (template.parent / element.split('"')[-2]).read_text(encoding="utf-8")
