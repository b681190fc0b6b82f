"""Choose training parameters on the validation images, and measure a first model.

The search is short: with the same number of steps for each, first three strengths of augmentation, then three learning rates.
Everything is a function of the data, so that the same data give the same choices.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.adoption.bounds import Choice, whole
from pipeline.core import console
from pipeline.core.errors import PipelineError
from pipeline.core.params import AugmentationParams, EvaluateParams, Params, TrainParams
from pipeline.data import datasets
from pipeline.data.datasets import Pixels, Split

_STEPS, _EPOCHS = 3700, (8, 200)  # of training: as many steps as the shipped parameters take on MNIST
_BATCHES_PER_EPOCH, _BATCH = 120, (16, 384)
_TRIAL_STEPS, _TRIAL_IMAGES = 800, 20_000
_MOST_FITTED, _MOST_MEASURED = 100_000, 20_000  # images that the first model sees, so that it takes a minute at most
_TRIAL_PIXELS = 3 * 800 * 384 * 28**2  # that a trial reads at most, of large images in fewer steps: a minute in all
_RATE = 0.008  # for the largest batch; in proportion to the square root of the batch size
_FACTORS = (0.4, 1, 2)  # the augmentation is chosen with the middle one
_WIDTH = 28  # of the images that the strengths below were chosen for
_AGREEMENT = 0.98
_RISK = 0.001  # that the same kind of model falls below a minimum by chance

STRENGTHS: Mapping[str, Mapping[str, float]] = {
    "none": {"rotation": 0, "scale": 0, "shear": 0, "shift": 0, "elastic": 0},
    "mild": {"rotation": 3, "scale": 0.05, "shear": 0.05, "shift": 0.5, "elastic": 0},
    "digits": {"rotation": 7, "scale": 0.1, "shear": 0.1, "shift": 1, "elastic": 0.5},
}

Rows = npt.NDArray[np.intp]


class Trial(NamedTuple):
    """What one setting reached on the validation images."""

    augmentation: str
    rate: float
    loss: float
    accuracy: float


class Measured(NamedTuple):
    """The first model on the validation images; keys as in `promote.minimum`."""

    metrics: dict[str, float]
    images: int
    smallest_class: int
    parameters: int


def plan(params: TrainParams, images: int) -> TrainParams:
    """Batch size, epochs and share of validation images for a number of training images."""
    share = round(min(0.2, max(0.08, 4000 / images)), 2)
    fitted = images - round(images * share)
    batch = int(min(_BATCH[1], max(_BATCH[0], fitted / _BATCHES_PER_EPOCH)))
    epochs = int(min(_EPOCHS[1], max(_EPOCHS[0], math.ceil(_STEPS / (fitted // min(batch, fitted))))))
    return params.model_copy(update={"validation_split": share, "batch_size": batch, "epochs": epochs})


def strength(name: str, size: Sequence[int], params: AugmentationParams) -> AugmentationParams:
    """One of `STRENGTHS`; distances are in proportion to the size of the images."""
    factor = min(size) / _WIDTH
    values = STRENGTHS[name]
    scaled = {key: round(values[key] * factor, 2) for key in ("shift", "elastic")}
    return params.model_copy(update={**values, **scaled})


def search(data: Split, params: Params) -> tuple[TrainParams, list[Trial]]:
    """The training parameters whose short runs have the lowest validation loss, and all runs."""
    train = plan(params.train, len(data.labels))
    parts = _parts(data, train)
    size, trials = data.images.shape[1:], list[Trial]()

    def best() -> Trial:
        return min(trials, key=lambda trial: trial.loss)

    def tried(augmentation: str, rate: float) -> None:
        update = {"augmentation": strength(augmentation, size, train.augmentation), "learning_rate": rate}
        loss, accuracy = _short_run(data, parts, train.model_copy(update=update), params)
        trials.append(Trial(augmentation, rate, loss, accuracy))

    rates = [float(f"{_RATE * factor * math.sqrt(train.batch_size / _BATCH[1]):.2g}") for factor in _FACTORS]
    for name in STRENGTHS:
        tried(name, rates[1])
    for rate in (rates[0], rates[2]):
        tried(best().augmentation, rate)
    found = best()
    update = {"augmentation": strength(found.augmentation, size, train.augmentation), "learning_rate": found.rate}
    return train.model_copy(update=update), trials


def _parts(data: Split, train: TrainParams) -> tuple[Rows, Rows]:
    """The rows to fit on and to measure on, evenly spaced if there are very many."""
    fitted, held_out = datasets.hold_out([len(data.labels)], train.validation_split)
    return fitted[:: -(-len(fitted) // _MOST_FITTED)], held_out[:: -(-len(held_out) // _MOST_MEASURED)]


def _short_run(data: Split, parts: tuple[Rows, Rows], train: TrainParams, params: Params) -> tuple[float, float]:
    fitted = parts[0][:: -(-len(parts[0]) // _TRIAL_IMAGES)]
    steps = min(_TRIAL_STEPS, max(_TRIAL_STEPS // 8, _TRIAL_PIXELS // (train.batch_size * data.images[0].size)))
    epochs = max(1, round(steps / max(1, len(fitted) // train.batch_size)))
    epochs = min(epochs, train.epochs)
    short = train.model_copy(update={"epochs": epochs, "warmup_epochs": min(train.warmup_epochs, epochs / 4)})
    try:
        last = _fit(data, (fitted, parts[1]), short, params)[1][-1]
    except PipelineError:  # it diverged
        return math.inf, 0.0
    return last["val_loss"], last["val_accuracy"]


def _fit(data: Split, parts: tuple[Rows, Rows], train: TrainParams, params: Params) -> tuple[Any, Any]:
    from pipeline.training import tensorflow_setup

    with tensorflow_setup.lean_tensorflow(train.threads):
        from pipeline.training import fit, network

    model = network.build(params.model, data.images.shape[1:], len(params.fetch.classes), train.seed)
    return model, fit.fit(model, data, parts, train, lambda *_: None)


def first_model(data: Split, train: TrainParams, evaluate: EvaluateParams, params: Params) -> Measured:
    """Train with `train`, and measure on the validation images what promotion bounds."""
    from pipeline.evaluation import metrics, perturbations

    parts = _parts(data, train)
    model, _ = _fit(data, parts, train, params)
    images, labels = data.images[parts[1]], data.labels[parts[1]]

    def predicted(pixels: Pixels) -> npt.NDArray[Any]:
        return np.asarray(model.predict(pixels, batch_size=2000, verbose=0))

    probabilities = predicted(images)
    shifted = perturbations.perturb(images, evaluate)["shifted_accuracy"]
    table = metrics.per_class(metrics.confusion(labels, probabilities))
    worst = min((row for row in table if row["images"]), key=lambda row: row["recall"])
    measured = {
        "accuracy": metrics.accuracy(labels, probabilities),
        "worst_recall": worst["recall"],
        "shifted_accuracy": float(np.mean([metrics.accuracy(labels, predicted(each)) for each in shifted])),
        "calibration_error": metrics.calibration_error(labels, probabilities, evaluate.calibration_bins),
    }
    return Measured(measured, len(labels), int(worst["images"]), int(model.count_params()))


def choices(train: TrainParams, trials: Sequence[Trial]) -> list[Choice]:
    """The choices for section train."""
    best = min(trials, key=lambda trial: trial.loss)
    compared = ", ".join(f"{trial.augmentation} {trial.accuracy:.2%}" for trial in trials[: len(STRENGTHS)])
    rates = ", ".join(f"{trial.rate:g} {trial.accuracy:.2%}" for trial in trials if trial.augmentation == best.augmentation)
    augmentation = [
        Choice(f"train.augmentation.{key}", whole(getattr(train.augmentation, key)), f"strength {best.augmentation}")
        for key in STRENGTHS["none"]
    ]
    return [
        Choice("train.epochs", train.epochs, f"about {_STEPS:,} steps"),
        Choice("train.batch_size", train.batch_size, f"about {_BATCHES_PER_EPOCH} batches per epoch"),
        Choice("train.learning_rate", train.learning_rate, f"best of short runs on validation images: {rates}"),
        Choice("train.validation_split", train.validation_split, "for about 4,000 images, 8% to 20%"),
        *augmentation,
        Choice("train.augmentation", None, f"short runs on validation images: {compared}"),
    ]


def promotion(measured: Measured) -> list[Choice]:
    """The choices for section promote: what the first model reached on validation images, minus its sampling error."""
    found, what = measured.metrics, "of the first model on validation images, minus sampling error"
    accuracy = _lower(found["accuracy"], measured.images)
    minimum = {
        "accuracy": accuracy,
        "worst_recall": _lower(found["worst_recall"], measured.smallest_class),
        "shifted_accuracy": _lower(found["shifted_accuracy"], measured.images),
    }
    return [
        Choice("promote.champion_accuracy", math.floor(accuracy * 90) / 100, "nine tenths of promote.minimum.accuracy"),
        Choice("monitor.live_accuracy", round(max(0.0, accuracy - 0.01), 4), "a point below promote.minimum.accuracy"),
        *(Choice(f"promote.minimum.{key}", value, f"{found[key]:.4g} {what}") for key, value in minimum.items()),
        Choice(
            "promote.maximum.calibration_error",
            math.ceil((2 * found["calibration_error"] + 1 / math.sqrt(measured.images)) * 100) / 100,
            f"{found['calibration_error']:.4g} of the first model, doubled, plus sampling error",
        ),
        Choice("export.int8", "optional", ""),
        Choice("export.int8_agreement", _AGREEMENT, "as promote.minimum.int8_agreement"),
        Choice("promote.minimum.int8_agreement", _AGREEMENT, "one prediction in fifty may differ, on few images, too"),
        Choice("promote.maximum.bytes", measured.parameters * 8 + 100_000, "twice the size of the weights"),
    ]


def _lower(share: float, images: int) -> float:
    """The lower end of the interval of a share of `images` (Clopper and Pearson), rounded down."""
    from scipy.stats import beta

    correct = round(share * images)
    return math.floor(float(beta.ppf(_RISK, correct, images - correct + 1)) * 1000) / 1000 if correct else 0.0


def show(trials: Sequence[Trial]) -> None:
    for trial in trials:
        console.echo("adopt", f"tried augmentation {trial.augmentation}, learning rate {trial.rate:g}: {trial.accuracy:.2%}")
