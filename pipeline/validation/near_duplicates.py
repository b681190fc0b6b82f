"""How images are alike: what is left of them at a low resolution, and which are nearly the same. Numpy and SciPy only.

An image is told by its coarsest waves, the lowest frequencies of its two-dimensional Fourier transform. How strong each wave
is does not change when the image is shifted or inverted, or is darker or brighter by a factor, and changes little by a few
pixels or faint noise.
"""

from collections.abc import Callable
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from pipeline.data.datasets import Pixels

Floats = npt.NDArray[np.float32]

_WAVES = 5  # along each axis at most: what digits are told apart by, and what noise adds little to
_LOOK, _SHAPE = 30, 12  # principal axes that are kept: by which classes are told apart, and by which twins are looked for
_SAMPLE = 10_000  # images that the axes are fitted on
_CHUNK = 10_000  # images at a time
_FAINT = 1e-2  # grey values: rounding gives an image of one grey as much, which has no waves


class Axes(NamedTuple):
    """Principal axes: the mean `(features,)` and the directions `(features, kept)`."""

    mean: Floats
    directions: Floats

    def of(self, features: Floats) -> Floats:
        return cast(Floats, (features - self.mean) @ self.directions)


class Space(NamedTuple):
    """What images are placed in: by their waves, and by how strong these are alone."""

    look: Axes
    shape: Axes


class Places(NamedTuple):
    """Where images lie: `look` is `(n, 30)` at most and `shape` `(n, 12)` at most, float32."""

    look: Floats
    shape: Floats


class View(NamedTuple):
    """Images, their `Places.shape`, and the numbers of those to look at, no two of which may be the same: a tree of equal
    points is none."""

    images: Pixels
    shapes: Floats
    rows: npt.NDArray[np.intp]


def waves(images: Pixels) -> Floats:
    """The coarsest waves of each image, in grey values: `(n, 2 * frequencies)` float32, real and then imaginary parts."""
    height, width = images.shape[1:]
    most_down, most_right = (min(_WAVES, side // 2) for side in (height, width))
    # Of each pair of opposite waves one, since pixels are real; and not the mean, which is no wave.
    down, right = np.mgrid[-most_down : most_down + 1, 0 : most_right + 1].reshape(2, -1)
    kept = (right > 0) | (down > 0)
    rows, columns = np.mgrid[:height, :width].reshape(2, -1)
    turns = np.outer(rows / height, down[kept]) + np.outer(columns / width, right[kept])
    basis = np.concatenate([np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)], axis=1) / len(rows)
    return _by_chunks(images, lambda chunk: chunk.reshape(len(chunk), -1).astype(np.float32) @ basis.astype(np.float32))


def strengths(found: Floats) -> Floats:
    """How strong each wave of `waves` is, `(n, frequencies)`, of length 1 in all: two images are 0 to the root of 2 apart."""
    half = found.shape[1] // 2
    sizes = np.hypot(found[:, :half], found[:, half:])
    return cast(Floats, sizes / np.maximum(np.linalg.norm(sizes, axis=1, keepdims=True), _FAINT))


def fit(images: Pixels) -> Space:
    """The space that tells `images` apart best, of which evenly spread ones are looked at where there are many."""
    found = waves(images[:: -(-len(images) // _SAMPLE)])
    return Space(_principal(found, _LOOK), _principal(strengths(found), _SHAPE))


def _principal(features: Floats, kept: int) -> Axes:
    mean = features.mean(axis=0)
    _, directions = np.linalg.eigh((features - mean).T @ (features - mean))
    return Axes(mean, directions[:, ::-1][:, :kept].astype(np.float32))


def place(images: Pixels, space: Space) -> Places:
    look, shape = space
    both = _by_chunks(images, lambda chunk: _both(waves(chunk), space))
    return Places(both[:, : look.directions.shape[1]], both[:, -shape.directions.shape[1] :])


def _both(found: Floats, space: Space) -> Floats:
    return np.concatenate([space.look.of(found), space.shape.of(strengths(found))], axis=1)


def _by_chunks(images: Pixels, work: Callable[[Pixels], Floats]) -> Floats:
    """Memory does not grow with the number of images, but for the result."""
    return np.concatenate([work(images[start : start + _CHUNK]) for start in range(0, len(images), _CHUNK)])


def twins(images: View, others: View, radius: float) -> npt.NDArray[np.intp]:
    """Which images nearly repeat one of the others, and the one of these that each is nearest to: `(2, n)` numbers of rows.

    Looked for along the few axes of `shapes`, in which two images are no farther apart than in all, and then measured in all.

    Args:
        others: where to look; `images` itself to look for pairs in it.
        radius: how far apart the `strengths` of twins are at most; 0 finds none.
    """
    itself = others is images
    nearest = min(2 if itself else 1, len(others.rows))  # nearest to itself is an image itself
    tree = KDTree(others.shapes[others.rows], balanced_tree=False, compact_nodes=False)
    apart, places = tree.query(images.shapes[images.rows], k=[nearest], distance_upper_bound=radius, workers=-1)
    near = np.flatnonzero(np.isfinite(apart[:, 0]))
    pairs = np.array([images.rows[near], others.rows[places[near, 0]]])
    if itself:
        pairs = pairs[:, pairs[0] != pairs[1]]
    return pairs[:, _apart(images.images, others.images, pairs) < radius]


def _apart(images: Pixels, others: Pixels, pairs: npt.NDArray[np.intp]) -> Floats:
    found = np.empty(pairs.shape[1], np.float32)
    for start in range(0, len(found), _CHUNK):
        first, second = pairs[:, start : start + _CHUNK]
        difference = strengths(waves(images[first])) - strengths(waves(others[second]))
        found[start : start + _CHUNK] = np.linalg.norm(difference, axis=1)
    return found
