"""How often each image of an extra data set counts in training, and how `auto` chooses this weight and the augmentation.

A few hundred images of today among tens of thousands of yesterday's teach little. Each is repeated, which gives its loss that
weight (importance weighting: H. Shimodaira, "Improving predictive inference under covariate shift by weighting the
log-likelihood function", Journal of Statistical Planning and Inference 90, 2000). Too large a weight costs accuracy elsewhere.
So few images are easily learned by heart, and stronger augmentation helps against that.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.core.params import TrainParams
from pipeline.data.datasets import Pixels, Split

AUTO = "auto"
WEIGHTS = (1, 4, 16, 64)
STRENGTHS = (1, 1.5)  # multiply the parameters of augmentation; 2 raises the loss on the old images of MNIST by a quarter

_TOLERATED = 1.25  # multiple of the lowest loss on old images; without it, promotion refused models for promote.margin
_LEAST = 20  # recent images, without which no weight can be told from another
_SHARE = 8  # short runs have one epoch in this many
_MOST_MEASURED = 4000  # validation images of the base

Rows = npt.NDArray[np.intp]
Predict = Callable[[Pixels], npt.NDArray[np.floating[Any]]]
Fit = Callable[[Rows, TrainParams], Predict]


class Tried(NamedTuple):
    """A short run: what it tried, and its mean log loss on validation images of the base and of the recent sets."""

    weight: int
    strength: float  # multiplies the parameters of augmentation
    old: float
    new: float

    @property
    def loss(self) -> float:
        return (self.old + self.new) / 2


class Chosen(NamedTuple):
    """The weight of each segment, the multiple of the parameters of augmentation, and what was tried."""

    weights: list[int]
    strength: float
    tried: list[Tried]


def repeated(fitted: Rows, rows: Sequence[int], weights: Sequence[int]) -> Rows:
    """The rows to fit on, each as often as its segment's weight says.

    Args:
        rows: the number of rows of each segment of the training split.
    """
    each = np.repeat(np.asarray(weights, np.intp), rows)
    return np.repeat(fitted, each[fitted])


def choose(
    data: Split, parts: tuple[Rows, Rows], rows: Sequence[int], weights: Sequence[int | str], params: TrainParams, fit: Fit
) -> Chosen:
    """Replace `auto` by the weight of the lowest loss, the same for all such sets, and choose the augmentation with it.

    Each short run fits on half of the recent images and is measured on the other half, and on validation images of the base.
    Both count the same, but the loss on the base may be 1.25 times the lowest one at most. With fewer than 20 recent images,
    or without validation images, the weight is 1.

    Args:
        parts: the rows to fit on and to validate on.
        fit: trains a new network on these rows, and returns its function from images to probabilities.
    """
    fitted, held_out = parts
    unknown = np.repeat([weight == AUTO for weight in weights], rows)
    recent = np.random.default_rng(params.seed).permutation(np.flatnonzero(unknown))
    if len(recent) < _LEAST or not len(held_out):
        return Chosen(_filled(weights, 1), 1, [])
    measured = recent[: len(recent) // 2]
    base = held_out[:: -(-len(held_out) // _MOST_MEASURED)]
    epochs = max(1, params.epochs // _SHARE)
    kept = fitted[~np.isin(fitted, measured)]

    def tried(weight: int, strength: float) -> Tried:
        changes = {
            "epochs": epochs,
            "warmup_epochs": min(params.warmup_epochs, epochs / 4),
            "augmentation": params.augmentation.times(strength),
        }
        predict = fit(repeated(kept, rows, _filled(weights, weight)), params.model_copy(update=changes))
        return Tried(weight, strength, *(_log_loss(predict, data, chosen) for chosen in (base, measured)))

    strengths = STRENGTHS[:1] if params.augmentation.none else STRENGTHS
    runs = [tried(weight, strength) for strength in strengths for weight in WEIGHTS]
    # The loss on recent images is many times that on old ones. In the mean alone, the old ones would count for nothing.
    most = _TOLERATED * min(run.old for run in runs)
    best = min((run for run in runs if run.old <= most), key=lambda run: run.loss)
    return Chosen(_filled(weights, best.weight), best.strength, runs)


def _filled(weights: Sequence[int | str], auto: int) -> list[int]:
    return [auto if weight == AUTO else int(weight) for weight in weights]


def _log_loss(predict: Predict, data: Split, rows: Rows) -> float:
    probabilities = predict(np.asarray(data.images[rows]))
    return float(-np.log(np.maximum(probabilities[np.arange(len(rows)), data.labels[rows]], 1e-7)).mean())
