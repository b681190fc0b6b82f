"""What a model is worth on labelled images: evaluate and promote score by the same figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from pipeline.core.params import EvaluateParams
from pipeline.data.datasets import Pixels, Split
from pipeline.evaluation import metrics
from pipeline.inference.onnx_model import OnnxModel, Probabilities

_LATENCY_CALLS = 2000


DIRECTIONS = ((-1, 0), (1, 0), (0, -1), (0, 1))


_NOISE_SEED = 0


def perturb(images: Pixels, params: EvaluateParams) -> dict[str, list[Pixels]]:
    """The images under each kind of change, by the name of the figure that it gives."""
    moves = [(down * params.shift, right * params.shift) for down, right in DIRECTIONS]
    return {
        "shifted_accuracy": [shift(images, down, right) for down, right in moves],
        "rotated_accuracy": [rotate(images, degrees) for degrees in (-params.rotation, params.rotation)],
        "noisy_accuracy": [add_noise(images, params.noise)],
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


def shift(images: Pixels, down: int, right: int) -> Pixels:
    """Move by whole pixels."""
    moved: Pixels = ndimage.shift(images, (0, down, right), order=0)
    return moved


def rotate(images: Pixels, degrees: float) -> Pixels:
    """Cycle about the centre, counterclockwise, with bilinear interpolation."""
    turned: Pixels = ndimage.rotate(images, degrees, axes=(2, 1), reshape=False, order=1)
    return turned


def add_noise(images: Pixels, deviation: float) -> Pixels:
    """Add Gaussian noise of `deviation` pixel values, the same for the same images, and clip to 0 to 255."""
    noise = np.random.default_rng(_NOISE_SEED).normal(0, deviation, images.shape)
    noisy: Pixels = np.clip(np.rint(images + noise), 0, 255).astype(np.uint8)
    return noisy
