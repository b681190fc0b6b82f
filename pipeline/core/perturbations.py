"""Small changes that a digit survives, to measure what the model does under them: images in, images out.

Images are `(n, height, width)` uint8 of 0 to 255; what moves in from outside is 0, the background.
"""

import numpy as np
from scipy import ndimage

from pipeline.core.datasets import Pixels

DIRECTIONS = ((-1, 0), (1, 0), (0, -1), (0, 1))

_NOISE_SEED = 0


def shift(images: Pixels, down: int, right: int) -> Pixels:
    """Move by whole pixels."""
    moved: Pixels = ndimage.shift(images, (0, down, right), order=0)
    return moved


def rotate(images: Pixels, degrees: float) -> Pixels:
    """Turn about the centre, counterclockwise, with bilinear interpolation."""
    turned: Pixels = ndimage.rotate(images, degrees, axes=(2, 1), reshape=False, order=1)
    return turned


def add_noise(images: Pixels, deviation: float) -> Pixels:
    """Add Gaussian noise of `deviation` pixel values, the same for the same images, and clip to 0 to 255."""
    noise = np.random.default_rng(_NOISE_SEED).normal(0, deviation, images.shape)
    noisy: Pixels = np.clip(np.rint(images + noise), 0, 255).astype(np.uint8)
    return noisy
