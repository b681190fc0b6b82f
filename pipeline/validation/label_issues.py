"""Find label issues: images that a simple classifier, fitted without their labels, clearly assigns to another class.

The method follows C. G. Northcutt, L. Jiang and I. L. Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels",
Journal of Artificial Intelligence Research 70, 2021: out-of-sample predictions, and a threshold for each class that comes from
the class itself. It uses margins instead of probabilities, because a classifier this simple is not calibrated.
`bench/label_issues.py` compares it with cleanlab.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from pipeline.data.datasets import Pixels
from pipeline.validation.near_duplicates import Floats

Flags = npt.NDArray[np.bool_]

_FOLDS = 2
_SEED = 0
_MIN_PER_FEATURE = 8  # images for each feature that a class needs for a usable covariance
_RIDGE = 1e-4  # share of the mean variance added to the covariance, so that constant features do no harm
_CHUNK = 10_000  # images at a time
_SMALLEST = 1e-6  # margin, of classes that the classifier cannot tell apart


class Labelled(NamedTuple):
    """Features `(n, d)` float32 and labels `(n,)` uint8. Labels outside the classes are ignored."""

    features: Floats
    labels: Pixels


def find_label_issues(base: Labelled, others: Sequence[Labelled], classes: int) -> list[Flags]:
    """Flag the label issues of the base and of each of `others`: `(n,)` each. Arguments as in `margins`."""
    return [found >= 1 for found in margins(base, others, classes)]


def margins(base: Labelled, others: Sequence[Labelled], classes: int) -> list[Floats]:
    """How clearly each image of the base, and of each of `others`, seems to be of another class than its label: `(n,)` each.

    The log density of the most likely class minus that of the second, divided by the median of this margin for images of the
    base that are labelled as the most likely class. From 1 on it is a label issue. It is -inf where the most likely class is
    the label.

    Each half of the base is judged by a classifier fitted on the other half, and `others` by the mean of both. Classes with
    too few images are left out.
    """
    counts = np.bincount(base.labels, minlength=classes)[:classes]
    known = np.flatnonzero(counts >= _MIN_PER_FEATURE * base.features.shape[1])
    if len(known) < 2 or base.features.shape[1] == 0:  # images of one pixel have no features
        return [np.full(len(each.labels), -np.inf, np.float32) for each in (base, *others)]
    fold = np.random.default_rng(_SEED).permutation(len(base.labels)) % _FOLDS
    scores = np.empty((len(base.labels), len(known)), np.float32)
    scores_of_others = [np.zeros((len(other.labels), len(known)), np.float32) for other in others]
    for number in range(_FOLDS):
        classifier = _fit(Labelled(base.features[fold != number], base.labels[fold != number]), known)
        scores[fold == number] = _log_densities(base.features[fold == number], classifier)
        for other, total in zip(others, scores_of_others, strict=True):
            total += _log_densities(other.features, classifier) / _FOLDS
    medians = np.array([_median_margin(scores[base.labels == label], index) for index, label in enumerate(known)])
    return [
        _margins(found, each.labels, known, medians)
        for found, each in zip([scores, *scores_of_others], [base, *others], strict=True)
    ]


def unsupported(images: Labelled, neighbours: int = 5) -> Flags:
    """Whether none of the `neighbours` nearest other images has an image's label, `(n,)`.

    This is the edited nearest neighbour rule in its cautious form (D. L. Wilson, "Asymptotic Properties of Nearest Neighbor
    Rules Using Edited Data", IEEE Transactions on Systems, Man, and Cybernetics 2, 1972). It needs a few images of each class,
    where a classifier needs hundreds.
    """
    count = min(neighbours, len(images.labels) - 1)
    if count < 1:
        return np.ones(len(images.labels), bool)
    _, nearest = KDTree(images.features).query(images.features, k=count + 1)
    others = nearest[:, 1:]  # the first is the image itself, or an equal one
    return np.asarray((images.labels[others] != images.labels[:, None]).all(axis=1))


class _Gaussian(NamedTuple):
    """A class as a normal distribution: mean `(d,)`, whitening matrix `(d, d)`, log prior minus half the log determinant."""

    mean: Floats
    whitening: Floats
    constant: float


def _fit(data: Labelled, known: npt.NDArray[np.intp]) -> list[_Gaussian]:
    """Quadratic discriminant analysis.

    Covariances are shrunk towards that of all classes, more so for classes with few images: J. H. Friedman, "Regularized
    Discriminant Analysis", Journal of the American Statistical Association 84, 1989.
    """
    size, classifier = data.features.shape[1], []
    pooled = _covariance(data.features.astype(np.float64))
    pooled += np.eye(size) * (_RIDGE * np.trace(pooled) / size + np.finfo(np.float32).tiny)
    for label in known:
        own = data.features[data.labels == label].astype(np.float64)
        shrinkage = size / (size + len(own))
        lower = np.linalg.cholesky((1 - shrinkage) * _covariance(own) + shrinkage * pooled)
        constant = float(np.log(len(own)) - np.log(np.diag(lower)).sum())
        classifier.append(_Gaussian(own.mean(axis=0).astype(np.float32), np.linalg.inv(lower).T.astype(np.float32), constant))
    return classifier


def _covariance(features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    centred = features - features.mean(axis=0)
    covariance: npt.NDArray[np.float64] = centred.T @ centred / len(features)
    return covariance


def _log_densities(features: Floats, classifier: Sequence[_Gaussian]) -> Floats:
    """The log density of each image in each class, `(n, classes)`, up to a constant."""
    scores = np.empty((len(features), len(classifier)), np.float32)
    for start in range(0, len(features), _CHUNK):
        rows = slice(start, start + _CHUNK)
        for index, gaussian in enumerate(classifier):
            white = (features[rows] - gaussian.mean) @ gaussian.whitening
            scores[rows, index] = gaussian.constant - np.einsum("ij,ij->i", white, white) / 2
    return scores


def _median_margin(own: Floats, index: int) -> float:
    """The median margin of the images of the class at `index` over the best other class; above 0."""
    return max(_SMALLEST, float(np.median(own[:, index] - np.delete(own, index, axis=1).max(axis=1))))


def _margins(scores: Floats, labels: Pixels, known: npt.NDArray[np.intp], medians: npt.NDArray[np.float64]) -> Floats:
    best = scores.argmax(axis=1)
    second, first = np.partition(scores, -2, axis=1)[:, -2:].T
    differs = np.isin(labels, known) & (known[best] != labels)
    return np.where(differs, (first - second) / medians[best], -np.inf)
