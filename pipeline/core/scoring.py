"""What a model is worth on labelled images: evaluate and promote score by the same figures."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core import metrics, perturbations
from pipeline.core.datasets import Pixels, Split
from pipeline.core.errors import UnusableInputError
from pipeline.core.inference import OnnxModel, Probabilities
from pipeline.core.params import EvaluateParams

_LATENCY_CALLS = 2000


def score(model: OnnxModel, test: Split, params: EvaluateParams) -> tuple[dict[str, Any], Probabilities]:
    """The figures of one model on the test split, and its probabilities."""
    probabilities = model.predict(test.images)
    recalls = [row["recall"] for row in metrics.per_class(metrics.confusion(test.labels, probabilities))]

    def robust(perturbed: Iterable[Pixels]) -> float:
        return float(np.mean([metrics.accuracy(test.labels, model.predict(images)) for images in perturbed]))

    figures = {
        "accuracy": metrics.accuracy(test.labels, probabilities),
        "log_loss": metrics.log_loss(test.labels, probabilities),
        "calibration_error": metrics.calibration_error(test.labels, probabilities, params.calibration_bins),
        "worst_recall": min(recalls),
        "shifted_accuracy": robust(
            perturbations.shift(test.images, down * params.shift, right * params.shift)
            for down, right in perturbations.DIRECTIONS
        ),
        "rotated_accuracy": robust(
            perturbations.rotate(test.images, degrees) for degrees in (-params.rotation, params.rotation)
        ),
        "noisy_accuracy": robust([perturbations.add_noise(test.images, params.noise)]),
    }
    return figures, probabilities


def latency(path: Path, image: Pixels) -> dict[str, float]:
    """Microseconds a call on one image takes, on one thread: median and 99th percentile."""
    taken = OnnxModel(path, threads=1).latency(image, _LATENCY_CALLS)
    return {f"p{rank}_microseconds": round(float(np.percentile(taken, rank)), 1) for rank in (50, 99)}


def open_for(path: Path, images: Pixels, classes: Sequence[str]) -> OnnxModel:
    """Open the model at `path`, or raise UnusableInputError unless it is for images of this size and as many classes."""
    model = OnnxModel(path)
    expected, found = (
        f"a model for images of {height}x{width} and {count} classes"
        for (height, width), count in ((images.shape[1:], len(classes)), (model.image_shape, model.classes))
    )
    if found != expected:
        raise UnusableInputError(path, expected, found)
    return model
