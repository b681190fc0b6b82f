"""Perturbed test images: shifted, rotated and noisy. All images are `(n, height, width)` uint8, 0 to 255."""

import numpy as np
from scipy import ndimage

from pipeline.core.params import EvaluateParams
from pipeline.data.datasets import Pixels

DIRECTIONS = ((-1, 0), (1, 0), (0, -1), (0, 1))  # down, right
_NOISE_SEED = 0


def perturb(images: Pixels, params: EvaluateParams) -> dict[str, list[Pixels]]:
    """The images under each perturbation, by the name of the metric that averages over its variants."""
    shifts = [(down * params.shift, right * params.shift) for down, right in DIRECTIONS]
    return {
        "shifted_accuracy": [shift(images, down, right) for down, right in shifts],
        "rotated_accuracy": [rotate(images, degrees) for degrees in (-params.rotation, params.rotation)],
        "noisy_accuracy": [add_noise(images, params.noise)],
    }


def shift(images: Pixels, down: int, right: int) -> Pixels:
    """Shift by whole pixels, and fill with 0."""
    shifted: Pixels = ndimage.shift(images, (0, down, right), order=0)
    return shifted


def rotate(images: Pixels, degrees: float) -> Pixels:
    """Rotate counterclockwise about the centre, with bilinear interpolation."""
    rotated: Pixels = ndimage.rotate(images, degrees, axes=(2, 1), reshape=False, order=1)
    return rotated


def add_noise(images: Pixels, deviation: float) -> Pixels:
    """Add Gaussian noise with a standard deviation of `deviation` pixel values, from a fixed seed."""
    noise = np.random.default_rng(_NOISE_SEED).normal(0, deviation, images.shape)
    noisy: Pixels = np.clip(np.rint(images + noise), 0, 255).astype(np.uint8)
    return noisy
