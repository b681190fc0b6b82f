"""What a model is worth on labelled images: evaluate and promote score by the same figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core import metrics, perturbations
from pipeline.core.datasets import Pixels, Split
from pipeline.core.errors import UnusableInputError
from pipeline.core.inference import OnnxModel, Probabilities
from pipeline.core.params import EvaluateParams

_LATENCY_CALLS = 2000


def perturb(images: Pixels, params: EvaluateParams) -> dict[str, list[Pixels]]:
    """The images under each kind of change, by the name of the figure that it gives."""
    moves = [(down * params.shift, right * params.shift) for down, right in perturbations.DIRECTIONS]
    return {
        "shifted_accuracy": [perturbations.shift(images, down, right) for down, right in moves],
        "rotated_accuracy": [perturbations.rotate(images, degrees) for degrees in (-params.rotation, params.rotation)],
        "noisy_accuracy": [perturbations.add_noise(images, params.noise)],
    }


def score(
    model: OnnxModel, test: Split, perturbed: Mapping[str, Sequence[Pixels]], bins: int
) -> tuple[dict[str, Any], Probabilities]:
    """The figures of one model on the test split and on what `perturb` made of it, and its probabilities."""
    probabilities = model.predict(test.images)
    recalls = [row["recall"] for row in metrics.per_class(metrics.confusion(test.labels, probabilities))]
    robust = {
        name: float(np.mean([metrics.accuracy(test.labels, model.predict(images)) for images in variants]))
        for name, variants in perturbed.items()
    }
    figures = {
        "accuracy": metrics.accuracy(test.labels, probabilities),
        "log_loss": metrics.log_loss(test.labels, probabilities),
        "calibration_error": metrics.calibration_error(test.labels, probabilities, bins),
        "worst_recall": min(recalls),
        **robust,
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
