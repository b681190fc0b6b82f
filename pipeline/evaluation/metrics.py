"""Metrics of predictions: pure functions from arrays to numbers.

`labels` are `(n,)` integers from 0; `probabilities` are `(n, classes)`, rows of which sum to 1.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[Any]
Floats = npt.NDArray[Any]
Counts = npt.NDArray[np.int64]  # a confusion matrix, (classes, classes)

_SMALLEST = float(np.finfo(np.float32).tiny)  # keeps the log loss finite if float32 rounds a probability to 0


def accuracy(labels: Labels, probabilities: Floats) -> float:
    """Share of samples whose most probable class is their label."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def agreement(probabilities: Floats, others: Floats) -> float:
    """Share of samples for which two models predict the same class."""
    return float((probabilities.argmax(axis=1) == others.argmax(axis=1)).mean())


def log_loss(labels: Labels, probabilities: Floats) -> float:
    """Mean negative natural logarithm of the probability of the label, in nats."""
    given = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(given, _SMALLEST)).mean())


def calibration_error(labels: Labels, probabilities: Floats, bins: int) -> float:
    """Expected calibration error: mean |confidence - accuracy| over bins of equal width, weighted by their samples.

    Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, equation 3.
    """
    error = sum(abs(confidence - correct) * count for confidence, correct, count in reliability(labels, probabilities, bins))
    return float(error / len(labels))


def reliability(labels: Labels, probabilities: Floats, bins: int) -> list[tuple[float, float, int]]:
    """Mean confidence, accuracy and number of samples of each confidence bin that is not empty."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == labels
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    members = [bin_of == number for number in range(bins)]
    return [(float(confidence[at].mean()), float(correct[at].mean()), int(at.sum())) for at in members if at.any()]


def confusion(labels: Labels, probabilities: Floats) -> Counts:
    """Counts, `(classes, classes)`: rows are labels, columns are predictions."""
    classes = probabilities.shape[1]
    pairs = labels.astype(np.int64) * classes + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def per_class(counts: Counts) -> list[dict[str, float]]:
    """Images, precision, recall and F1 of each class of a confusion matrix; 0 where they are not defined."""
    correct, labelled, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    return [
        {
            "images": int(labelled[k]),
            "precision": float(correct[k] / max(1, predicted[k])),
            "recall": float(correct[k] / max(1, labelled[k])),
            "f1": float(2 * correct[k] / max(1, labelled[k] + predicted[k])),
        }
        for k in range(len(counts))
    ]
