"""Detect drift: compare the images that a model is asked about with its training data. Arrays in, checks out.

Four features of each image are compared: ink and intensity, and the model's confidence and predicted class. The method, one
test per feature of inputs and outputs with a correction for their number, follows Rabanser, Günnemann and Lipton, "Failing
Loudly: An Empirical Study of Methods for Detecting Dataset Shift", NeurIPS 2019.

A difference counts as drift only if it is both statistically significant and large.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import PipelineError
from pipeline.core.params import DriftParams, Params
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.data.datasets import Pixels
from pipeline.inference.onnx_model import OnnxModel, Probabilities

Features = Mapping[str, npt.NDArray[np.float64]]  # the name of a feature -> its value for each image, `(n,)`

INK_FRACTION, MEAN_INTENSITY = "ink_fraction", "mean_intensity"
CONFIDENCE, PREDICTED_CLASS = "confidence", "predicted_class"

_MIN_EXPECTED = 5  # images that a chi-squared test must expect of a class in each sample
_USUAL = (0.01, 0.5, 0.99)  # quantiles of the reference: the range of usual values, and its middle
_MIN_RANGE = 1e-6
_SMALLEST_P = 1e-99  # that is printed


class TooFewImagesError(PipelineError):
    """There are too few images to detect drift."""

    def __init__(self, source: str, expected: int, found: int) -> None:
        super().__init__(
            f"{source}: expected at least {expected:,} images (drift.min_images), found {found:,}.\n"
            "Nothing was compared. Collect more images, or lower the minimum."
        )


class Check(NamedTuple):
    """The comparison of one feature of the served images with the reference."""

    feature: str
    effect_size: float  # 0 to 1: Kolmogorov-Smirnov statistic, or total variation distance of the class shares
    p_value: float  # corrected for the number of checks
    drifted: bool

    @property
    def p_text(self) -> str:
        return f"p = {self.p_value:.2g}" if self.p_value > _SMALLEST_P else f"p < {_SMALLEST_P:g}"


def image_features(images: Pixels) -> Features:
    """Compute the share of pixels above 0 and the mean pixel (0 to 255) of images `(n, height, width)` uint8."""
    flat = images.reshape(len(images), -1)
    return {INK_FRACTION: np.count_nonzero(flat, axis=1) / flat.shape[1], MEAN_INTENSITY: flat.mean(axis=1)}


def prediction_features(probabilities: Probabilities) -> Features:
    """Compute the largest probability and the index of its class from probabilities `(n, classes)`."""
    return {
        CONFIDENCE: probabilities.max(axis=1).astype(np.float64),
        PREDICTED_CLASS: probabilities.argmax(axis=1).astype(np.float64),
    }


def served_features(model: OnnxModel, images: Pixels) -> Features:
    return {**image_features(images), **prediction_features(model.predict(images))}


def reference_features(model: OnnxModel, images: Pixels, params: Params, paths: Paths) -> Features:
    """Compute the image features of the training images, and the prediction features of the validation images among them.

    A model is more confident on images that it was fitted on. Without validation images, confidence is therefore left out.
    """
    _, held_out = datasets.hold_out(datasets.train_rows(paths), params.train.validation_split)
    if len(held_out):
        return {**image_features(images), **prediction_features(model.predict(images[held_out]))}
    predicted = prediction_features(model.predict(images))[PREDICTED_CLASS]
    return {**image_features(images), PREDICTED_CLASS: predicted}


def compare(reference: Features, served: Features, classes: int, params: DriftParams) -> list[Check]:
    """Compare the features of the reference with the served ones. The number of images may differ between features.

    Predicted classes get a chi-squared test, the other features a two-sample Kolmogorov-Smirnov test by its asymptotic
    distribution (J. L. Hodges, "The significance probability of the Smirnov two-sample test", Arkiv för Matematik 3, 1958),
    which is conservative where values are equal. The p-values are corrected by S. Holm, "A simple sequentially rejective
    multiple test procedure", Scandinavian Journal of Statistics 6, 1979: the probability of any false alarm is at most
    `params.alpha`.
    """
    from scipy.stats import ks_2samp  # takes half a second to import

    results: dict[str, tuple[float, float]] = {}
    for name, values in reference.items():
        if name == PREDICTED_CLASS:
            results[name] = _compare_classes(values, served[name], classes)
        else:
            test = ks_2samp(values, served[name], method="asymp")
            results[name] = (float(test.statistic), float(test.pvalue))
    corrected = _holm({name: p_value for name, (_, p_value) in results.items()})
    return [
        Check(name, effect_size, corrected[name], corrected[name] <= params.alpha and effect_size >= params.min_effect_size)
        for name, (effect_size, _) in results.items()
    ]


def class_shares(predicted: npt.NDArray[np.float64], classes: int) -> npt.NDArray[np.float64]:
    """Compute the share of each class `(classes,)` in predicted classes `(n,)`."""
    return np.bincount(predicted.astype(int), minlength=classes) / len(predicted)


def _compare_classes(reference: npt.NDArray[np.float64], served: npt.NDArray[np.float64], classes: int) -> tuple[float, float]:
    """Return the total variation distance of the class shares of two samples, and the p-value of a chi-squared test.

    Classes with too few expected images are pooled: W. G. Cochran, "Some Methods for Strengthening the Common chi-squared
    Tests", Biometrics 10, 1954.
    """
    from scipy.stats import chi2_contingency

    shares = np.array([class_shares(values, classes) for values in (reference, served)])
    sizes = np.array([len(reference), len(served)])
    counts = shares * sizes[:, None]
    rare = counts.sum(axis=0) * sizes.min() / sizes.sum() < _MIN_EXPECTED
    pooled = np.column_stack([counts[:, ~rare], counts[:, rare].sum(axis=1)])
    occurring = pooled[:, pooled.sum(axis=0) > 0]
    p_value = float(chi2_contingency(occurring).pvalue) if occurring.shape[1] > 1 else 1.0
    return float(np.abs(shares[0] - shares[1]).sum() / 2), p_value


def _holm(p_values: Mapping[str, float]) -> dict[str, float]:
    corrected, largest = {}, 0.0
    for index, (name, p_value) in enumerate(sorted(p_values.items(), key=lambda entry: entry[1])):
        largest = max(largest, min(1.0, p_value * (len(p_values) - index)))
        corrected[name] = largest
    return corrected


def most_unusual(reference: Features, served: Features, count: int) -> list[tuple[int, str]]:
    """Return the indices of the `count` most unusual served images, each with its most unusual feature.

    The measure is the distance from the reference's median, divided by the range that holds 98 % of the reference.
    """
    names = [name for name in reference if name != PREDICTED_CLASS]
    distances = []
    for name in names:
        low, median, high = np.quantile(reference[name], _USUAL)
        distances.append(np.abs(served[name] - median) / max(high - low, _MIN_RANGE))
    order = np.argsort(-np.max(distances, axis=0), kind="stable")[:count]
    return [(int(index), names[int(np.argmax([distance[index] for distance in distances]))]) for index in order]
