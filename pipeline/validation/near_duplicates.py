"""Find near-duplicate images, and embed images at a low resolution. NumPy and SciPy only.

An image is described by the lowest frequencies of its two-dimensional Fourier transform. Their magnitudes stay
the same when an image is shifted, inverted or scaled in brightness, and change little with faint noise or a few other pixels.
"""

from collections.abc import Callable
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from pipeline.data.datasets import Pixels

Floats = npt.NDArray[np.float32]

_MAX_FREQUENCY = 5  # along each axis: enough to tell digits apart, and little affected by noise
_COEFFICIENT_AXES, _MAGNITUDE_AXES = 30, 12  # principal axes kept
_SAMPLE = 10_000  # images that the axes are fitted on
_CHUNK = 10_000  # images at a time
_MIN_NORM = 1e-2  # grey values; rounding gives an image of one grey value about as much


class Axes(NamedTuple):
    """Principal axes: the mean `(features,)` and the directions `(features, kept)`."""

    mean: Floats
    directions: Floats

    def project(self, features: Floats) -> Floats:
        return cast(Floats, (features - self.mean) @ self.directions)


class Embedder(NamedTuple):
    """The principal axes of the Fourier coefficients and of their magnitudes."""

    coefficients: Axes
    magnitudes: Axes


class Embeddings(NamedTuple):
    """Images on the axes of an `Embedder`, float32: up to `(n, 30)` to tell classes apart, up to `(n, 12)` for duplicates."""

    coefficients: Floats
    magnitudes: Floats


class Candidates(NamedTuple):
    """Images, their `Embeddings.magnitudes`, and the indices of those to search, which must all differ: a tree of equal points
    is degenerate."""

    images: Pixels
    embeddings: Floats
    rows: npt.NDArray[np.intp]


def fourier_coefficients(images: Pixels) -> Floats:
    """The lowest Fourier coefficients of each image, in grey values: `(n, 2 * frequencies)`, real then imaginary parts."""
    height, width = images.shape[1:]
    max_down, max_right = (min(_MAX_FREQUENCY, side // 2) for side in (height, width))
    # One of each pair of opposite frequencies, since pixels are real; without the mean.
    down, right = np.mgrid[-max_down : max_down + 1, 0 : max_right + 1].reshape(2, -1)
    kept = (right > 0) | (down > 0)
    rows, columns = np.mgrid[:height, :width].reshape(2, -1)
    cycles = np.outer(rows / height, down[kept]) + np.outer(columns / width, right[kept])
    basis = np.concatenate([np.cos(2 * np.pi * cycles), np.sin(2 * np.pi * cycles)], axis=1) / len(rows)
    return _by_chunks(images, lambda chunk: chunk.reshape(len(chunk), -1).astype(np.float32) @ basis.astype(np.float32))


def fourier_magnitudes(coefficients: Floats) -> Floats:
    """The magnitudes `(n, frequencies)`, scaled to length 1: two images are 0 to the square root of 2 apart."""
    half = coefficients.shape[1] // 2
    magnitudes = np.hypot(coefficients[:, :half], coefficients[:, half:])
    return cast(Floats, magnitudes / np.maximum(np.linalg.norm(magnitudes, axis=1, keepdims=True), _MIN_NORM))


def fit(images: Pixels) -> Embedder:
    """Fit principal axes to `images`, or to an evenly spaced sample of many images."""
    coefficients = fourier_coefficients(images[:: -(-len(images) // _SAMPLE)])
    return Embedder(
        _principal_axes(coefficients, _COEFFICIENT_AXES), _principal_axes(fourier_magnitudes(coefficients), _MAGNITUDE_AXES)
    )


def _principal_axes(features: Floats, kept: int) -> Axes:
    mean = features.mean(axis=0)
    _, directions = np.linalg.eigh((features - mean).T @ (features - mean))
    return Axes(mean, directions[:, ::-1][:, :kept].astype(np.float32))


def embed(images: Pixels, embedder: Embedder) -> Embeddings:
    both = _by_chunks(images, lambda chunk: _embed(fourier_coefficients(chunk), embedder))
    return Embeddings(*np.split(both, [embedder.coefficients.directions.shape[1]], axis=1))


def _embed(coefficients: Floats, embedder: Embedder) -> Floats:
    magnitudes = fourier_magnitudes(coefficients)
    return np.concatenate([embedder.coefficients.project(coefficients), embedder.magnitudes.project(magnitudes)], axis=1)


def _by_chunks(images: Pixels, compute: Callable[[Pixels], Floats]) -> Floats:
    """Apply `compute` to some images at a time, so that memory grows with the result only."""
    return np.concatenate([compute(images[start : start + _CHUNK]) for start in range(0, len(images), _CHUNK)])


def duplicate_pairs(images: Candidates, others: Candidates, radius: float) -> npt.NDArray[np.intp]:
    """Pair each near-duplicate among `images` with the nearest of `others`: indices `(2, pairs)`.

    The search uses the embeddings, in which no distance is larger than between the full magnitudes; these decide.

    Args:
        others: the images to compare with; `images` itself to find pairs within it.
        radius: near-duplicates are closer than this, 0 to 1.4; 0 finds none.
    """
    if images.embeddings.shape[1] == 0:  # images of one pixel have no frequency
        return np.empty((2, 0), np.intp)
    within = others is images
    nearest = min(2 if within else 1, len(others.rows))  # within one set, the nearest image is the image itself
    tree = KDTree(others.embeddings[others.rows], balanced_tree=False, compact_nodes=False)
    distances, indices = tree.query(images.embeddings[images.rows], k=[nearest], distance_upper_bound=radius, workers=-1)
    near = np.flatnonzero(np.isfinite(distances[:, 0]))
    pairs = np.array([images.rows[near], others.rows[indices[near, 0]]])
    if within:
        pairs = pairs[:, pairs[0] != pairs[1]]
    return pairs[:, _distances(images.images, others.images, pairs) < radius]


def _distances(images: Pixels, others: Pixels, pairs: npt.NDArray[np.intp]) -> Floats:
    distances = np.empty(pairs.shape[1], np.float32)
    for start in range(0, len(distances), _CHUNK):
        first, second = pairs[:, start : start + _CHUNK]
        differences = _magnitudes(images[first]) - _magnitudes(others[second])
        distances[start : start + _CHUNK] = np.linalg.norm(differences, axis=1)
    return distances


def _magnitudes(images: Pixels) -> Floats:
    return fourier_magnitudes(fourier_coefficients(images))
