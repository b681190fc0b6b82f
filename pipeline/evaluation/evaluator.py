"""Measure a model on labelled images. Evaluation and promotion use the same metrics."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.datasets import Pixels, Split
from pipeline.evaluation import metrics
from pipeline.inference.onnx_model import OnnxModel, Probabilities

_LATENCY_CALLS = 2000


def evaluate(
    model: OnnxModel, test: Split, perturbed: Mapping[str, Sequence[Pixels]], bins: int
) -> tuple[dict[str, Any], Probabilities]:
    """Measure `model` on the test split and on perturbed copies of its images.

    Args:
        perturbed: from `perturbations.perturb`.
        bins: of the calibration error.

    Returns:
        Metrics by name, and the probabilities `(n, classes)` of the test images.
    """
    probabilities = model.predict(test.images)
    recalls = [row["recall"] for row in metrics.per_class(metrics.confusion(test.labels, probabilities))]
    measured = {
        "accuracy": metrics.accuracy(test.labels, probabilities),
        "log_loss": metrics.log_loss(test.labels, probabilities),
        "calibration_error": metrics.calibration_error(test.labels, probabilities, bins),
        "worst_recall": min(recalls),
    }
    for name, variants in perturbed.items():
        measured[name] = float(np.mean([metrics.accuracy(test.labels, model.predict(images)) for images in variants]))
    return measured, probabilities


def latency(path: Path, image: Pixels) -> dict[str, float]:
    """Microseconds to classify one image `(height, width)` on one thread: median and 99th percentile."""
    times = OnnxModel(path, threads=1).latency(image, _LATENCY_CALLS)
    return {f"p{rank}_microseconds": round(float(np.percentile(times, rank)), 1) for rank in (50, 99)}
