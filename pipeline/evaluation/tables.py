"""The CSV tables that evaluate writes."""

from collections.abc import Mapping, Sequence

from pipeline.core.files import csv_text
from pipeline.data.datasets import Pixels
from pipeline.evaluation import metrics
from pipeline.inference.onnx_model import Probabilities


def per_class(variants: Mapping[str, Probabilities], labels: Pixels, classes: Sequence[str]) -> str:
    """One row per variant and class: images, precision, recall, F1."""
    rows = [
        {"variant": variant, "class": name, **row}
        for variant, probabilities in variants.items()
        for name, row in zip(classes, metrics.per_class(metrics.confusion(labels, probabilities)), strict=True)
    ]
    return csv_text(list(rows[0]), ([*row.values()] for row in rows))


def predictions(labels: Pixels, probabilities: Probabilities, classes: Sequence[str]) -> str:
    """One row per test image, actual and predicted class. DVC plots the confusion matrix from it."""
    predicted = probabilities.argmax(axis=1)
    return csv_text(["actual", "predicted"], ((classes[a], classes[b]) for a, b in zip(labels, predicted, strict=True)))
