"""Accuracy on slices: the test images of recent data sets, each set by itself and the newest sets together."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.core.intervals import wilson
from pipeline.data.datasets import Split
from pipeline.evaluation import metrics
from pipeline.inference.onnx_model import OnnxModel


def measure(model: OnnxModel, slices: Mapping[str, Split], classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The key `slices` of metrics.json, by the name of the slice.

    Returns:
        images; accuracy and its 95 % interval, 0 to 1; and the recall of each class that the slice has images of.
    """
    return {name: _measure(model, split, classes) for name, split in slices.items()}


def _measure(model: OnnxModel, split: Split, classes: Sequence[str]) -> dict[str, Any]:
    probabilities = model.predict(split.images)
    accuracy = metrics.accuracy(split.labels, probabilities)
    low, high = wilson(accuracy, len(split.labels))
    rows = zip(classes, metrics.per_class(metrics.confusion(split.labels, probabilities)), strict=True)
    return {
        "images": len(split.labels),
        "accuracy": accuracy,
        "interval": {"low": low, "high": high},
        "recall": {name: row["recall"] for name, row in rows if row["images"]},
    }
