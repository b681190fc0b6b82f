"""How good predictions are: arrays in, numbers out.

`labels` are `(n,)` integers from 0; `probabilities` are `(n, classes)`, rows of which sum to 1.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[Any]
Floats = npt.NDArray[Any]

_SMALLEST = float(np.finfo(np.float32).tiny)  # bounds the log loss of a probability that float32 rounds to 0


def accuracy(labels: Labels, probabilities: Floats) -> float:
    """Share of samples whose most probable class is their label."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def agreement(probabilities: Floats, others: Floats) -> float:
    """Share of samples on which two models decide the same."""
    return float((probabilities.argmax(axis=1) == others.argmax(axis=1)).mean())


def log_loss(labels: Labels, probabilities: Floats) -> float:
    """Mean negative natural logarithm of the probability of the label, in nats."""
    given = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(given, _SMALLEST)).mean())


def calibration_error(labels: Labels, probabilities: Floats, bins: int) -> float:
    """Expected calibration error: how far confidence is from accuracy, in bins of equal width, weighted by their samples.

    Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, equation 3.
    """
    error = sum(abs(confidence - right) * count for confidence, right, count in reliability(labels, probabilities, bins))
    return float(error / len(labels))


def reliability(labels: Labels, probabilities: Floats, bins: int) -> list[tuple[float, float, int]]:
    """Mean confidence, accuracy and number of samples of each bin of confidence that holds any."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    held = [place == number for number in range(bins)]
    return [(float(confidence[at].mean()), float(right[at].mean()), int(at.sum())) for at in held if at.any()]


def confusion(labels: Labels, probabilities: Floats) -> npt.NDArray[np.int64]:
    """Counts, `(classes, classes)`: rows are labels, columns are decisions."""
    classes = probabilities.shape[1]
    pairs = labels.astype(np.int64) * classes + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def per_class(counts: npt.NDArray[np.int64]) -> list[dict[str, float]]:
    """Images, precision, recall and F1 of each class of a confusion matrix; 0 where there is nothing to divide by."""
    right, labelled, decided = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    return [
        {
            "images": int(labelled[k]),
            "precision": float(right[k] / max(1, decided[k])),
            "recall": float(right[k] / max(1, labelled[k])),
            "f1": float(2 * right[k] / max(1, labelled[k] + decided[k])),
        }
        for k in range(len(counts))
    ]
