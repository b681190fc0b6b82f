"""Which images are surely labelled wrongly, by a simple classifier that has not seen their labels. Numpy only.

After C. G. Northcutt, L. Jiang and I. L. Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", Journal of
Artificial Intelligence Research 70, 2021: predictions from outside the sample, and a threshold for each class that the class
itself sets. In place of probabilities, by how much the best class is ahead, because no classifier this simple is calibrated.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.data.datasets import Pixels
from pipeline.validation.near_duplicates import Floats

Flags = npt.NDArray[np.bool_]

_FOLDS = 2
_SEED = 0
_FEWEST = 8  # images a feature that a class needs to teach anything
_RIDGE = 1e-4  # of the mean variance, so that features that are always the same do no harm
_CHUNK = 10_000


class Sample(NamedTuple):
    """Features `(n, d)` and labels `(n,)`; labels that are no class are neither learned from nor doubted."""

    features: Floats
    labels: Pixels


def doubtful(base: Sample, others: Sequence[Sample], classes: int) -> list[Flags]:
    """Which images of the base, and of each of `others`, are surely of another class than their label: `(n,)` each.

    An image is, if it is ahead as another class at least as far as half the images of that class in the base are. Each half
    of the base is judged by what the other half teaches, and the others by the mean of both. Classes of so few images that
    they teach nothing are left out.
    """
    counts = np.bincount(base.labels, minlength=classes)[:classes]
    known = np.flatnonzero(counts >= _FEWEST * base.features.shape[1])
    if len(known) < 2:
        return [np.zeros(len(sample.labels), bool) for sample in (base, *others)]
    fold = np.random.default_rng(_SEED).permutation(len(base.labels)) % _FOLDS
    scores = np.empty((len(base.labels), len(known)), np.float32)
    of_others = [np.zeros((len(other.labels), len(known)), np.float32) for other in others]
    for number in range(_FOLDS):
        model = _fit(Sample(base.features[fold != number], base.labels[fold != number]), known)
        scores[fold == number] = _scores(base.features[fold == number], model)
        for other, summed in zip(others, of_others, strict=True):
            summed += _scores(other.features, model) / _FOLDS
    usual = np.array([_usual(scores[base.labels == label], place) for place, label in enumerate(known)])
    return [
        _surely_other(found, sample.labels, known, usual)
        for found, sample in zip([scores, *of_others], [base, *others], strict=True)
    ]


class _Gaussian(NamedTuple):
    """A class as a normal distribution: its mean `(d,)`, what whitens it `(d, d)`, and the log of its weight."""

    mean: Floats
    whitening: Floats
    weight: float


def _fit(sample: Sample, known: Sequence[int] | npt.NDArray[np.intp]) -> list[_Gaussian]:
    """Quadratic discriminant analysis.

    Covariances are drawn to that of all classes, the more the fewer images there are: J. H. Friedman, "Regularized
    Discriminant Analysis", Journal of the American Statistical Association 84, 1989.
    """
    size, found = sample.features.shape[1], []
    pooled = _covariance(sample.features.astype(np.float64))
    pooled += np.eye(size) * (_RIDGE * np.trace(pooled) / size + np.finfo(np.float32).tiny)
    for label in known:
        own = sample.features[sample.labels == label].astype(np.float64)
        share = size / (size + len(own))
        lower = np.linalg.cholesky((1 - share) * _covariance(own) + share * pooled)
        weight = float(np.log(len(own)) - np.log(np.diag(lower)).sum())
        found.append(_Gaussian(own.mean(axis=0).astype(np.float32), np.linalg.inv(lower).T.astype(np.float32), weight))
    return found


def _covariance(features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    centred = features - features.mean(axis=0)
    found: npt.NDArray[np.float64] = centred.T @ centred / len(features)
    return found


def _scores(features: Floats, model: Sequence[_Gaussian]) -> Floats:
    """The log density of each image in each class, `(n, classes)`, but for what is the same for all."""
    scores = np.empty((len(features), len(model)), np.float32)
    for start in range(0, len(features), _CHUNK):
        part = slice(start, start + _CHUNK)
        for place, found in enumerate(model):
            white = (features[part] - found.mean) @ found.whitening
            scores[part, place] = found.weight - np.einsum("ij,ij->i", white, white) / 2
    return scores


def _usual(own: Floats, place: int) -> float:
    """By how much half the images of the class at `place` are ahead as what they are; at least 0."""
    return max(0, float(np.median(own[:, place] - np.delete(own, place, axis=1).max(axis=1))))


def _surely_other(scores: Floats, labels: Pixels, known: npt.NDArray[np.intp], usual: npt.NDArray[np.float64]) -> Flags:
    best = scores.argmax(axis=1)
    second, first = np.partition(scores, -2, axis=1)[:, -2:].T
    found: Flags = np.isin(labels, known) & (known[best] != labels) & (first - second >= usual[best])
    return found
