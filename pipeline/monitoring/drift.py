"""Whether the images that a model is asked about still look like those that it was made with. Arrays in, checks out.

Four things are compared: ink and intensity of the images, and the confidence and the mix of classes of what the model decides.
That a model's own outputs tell of a shift in its inputs, one test a figure with a correction for their number, is the finding
of Rabanser, Günnemann and Lipton, "Failing Loudly: An Empirical Study of Methods for Detecting Dataset Shift", NeurIPS 2019.

A difference is drift when it is significant, so that few images raise no alarm by chance, and large, so that many raise none
for a trifle.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import PipelineError
from pipeline.core.params import DriftParams, Params
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.data.datasets import Pixels
from pipeline.inference.onnx_model import OnnxModel, Probabilities

Features = Mapping[str, npt.NDArray[np.float64]]

CONFIDENCE, DECIDED = "confidence", "class_mix"

_FEWEST = 5  # images of a class that a chi-squared test expects at least, in each sample
_COMMON = (0.01, 0.5, 0.99)  # the quantiles of the reference between which, and from which, an image is usual
_NARROWEST = 1e-6
_SMALLEST_P = 1e-99  # shown


class TooFewImagesError(PipelineError):
    """So few images say nothing about drift."""

    def __init__(self, source: str, expected: int, found: int) -> None:
        super().__init__(
            f"{source}: expected at least {expected:,} images (drift.min_images), found {found:,}.\n"
            "Nothing was compared. Collect more, or lower the minimum."
        )


class Check(NamedTuple):
    """One comparison of served images with the reference."""

    check: str
    effect: float  # 0 to 1: Kolmogorov and Smirnov's statistic, or the total variation distance of the class mixes
    p_value: float  # corrected for the number of checks
    drifted: bool

    @property
    def found(self) -> str:
        p_value = f"p = {self.p_value:.2g}" if self.p_value > _SMALLEST_P else f"p < {_SMALLEST_P:g}"
        return f"effect {self.effect:.3f}, {p_value}"


def of_images(images: Pixels) -> Features:
    """Share of pixels above 0, and mean pixel of 0 to 255: `(n,)` each."""
    flat = images.reshape(len(images), -1)
    return {"ink_fraction": np.count_nonzero(flat, axis=1) / flat.shape[1], "mean_intensity": flat.mean(axis=1)}


def of_decisions(probabilities: Probabilities) -> Features:
    """Largest probability, and the class that has it: `(n,)` each."""
    return {
        CONFIDENCE: probabilities.max(axis=1).astype(np.float64),
        DECIDED: probabilities.argmax(axis=1).astype(np.float64),
    }


def reference(model: OnnxModel, images: Pixels, params: Params, paths: Paths) -> Features:
    """The training images as they are, and what the model decides on those of them that are held out for validation.

    On images that it was fitted on a model is surer than on any others: where none are held out, confidence is left out.
    """
    _, held_out = datasets.hold_out(datasets.train_rows(paths), params.train.validation_split)
    if len(held_out):
        return {**of_images(images), **of_decisions(model.predict(images[held_out]))}
    decided = of_decisions(model.predict(images))
    return {**of_images(images), DECIDED: decided[DECIDED]}


def compare(reference: Features, served: Features, classes: int, params: DriftParams) -> list[Check]:
    """Compare what the reference has, feature by feature; the numbers of images may differ, from feature to feature too.

    Kolmogorov and Smirnov's two-sample test, by its asymptotic distribution (J. L. Hodges, "The significance probability of
    the Smirnov two-sample test", Arkiv för Matematik 3, 1958), which errs on the safe side where values are equal; and a
    chi-squared test of the class mixes. The p-values are corrected by S. Holm, "A simple sequentially rejective multiple test
    procedure", Scandinavian Journal of Statistics 6, 1979: the chance of any false alarm is at most `params.alpha`.
    """
    from scipy.stats import ks_2samp  # half a second, which importing need not take

    found: dict[str, tuple[float, float]] = {}
    for name, values in reference.items():
        if name == DECIDED:
            found[name] = _mixes(values, served[name], classes)
        else:
            tested = ks_2samp(values, served[name], method="asymp")
            found[name] = (float(tested.statistic), float(tested.pvalue))
    corrected = _holm({name: p_value for name, (_, p_value) in found.items()})
    return [
        Check(name, effect, corrected[name], corrected[name] <= params.alpha and effect >= params.min_effect_size)
        for name, (effect, _) in found.items()
    ]


def lines(checks: Sequence[Check], params: DriftParams) -> list[tuple[str, str]]:
    """Each check for a person: the verdict, and what was found beside what would be drift."""
    bound = f"drift from {params.min_effect_size:g} on, with p of at most {params.alpha:g}"
    return [("  drifted" if check.drifted else "  same", f"{check.check}: {check.found}; {bound}") for check in checks]


def shares(decided: npt.NDArray[np.float64], classes: int) -> npt.NDArray[np.float64]:
    """The share of each class in a sample of decisions, `(classes,)`."""
    return np.bincount(decided.astype(int), minlength=classes) / len(decided)


def _mixes(reference: npt.NDArray[np.float64], served: npt.NDArray[np.float64], classes: int) -> tuple[float, float]:
    """Total variation distance of two samples of classes, and the p-value of their being of one mix.

    Classes of which too few images are expected count as one: W. G. Cochran, "Some Methods for Strengthening the Common
    chi-squared Tests", Biometrics 10, 1954.
    """
    from scipy.stats import chi2_contingency

    mixes = np.array([shares(values, classes) for values in (reference, served)])
    sizes = np.array([len(reference), len(served)])
    counts = mixes * sizes[:, None]
    rare = counts.sum(axis=0) * sizes.min() / sizes.sum() < _FEWEST
    pooled = np.column_stack([counts[:, ~rare], counts[:, rare].sum(axis=1)])
    occurring = pooled[:, pooled.sum(axis=0) > 0]
    p_value = float(chi2_contingency(occurring).pvalue) if occurring.shape[1] > 1 else 1.0
    return float(np.abs(mixes[0] - mixes[1]).sum() / 2), p_value


def _holm(p_values: Mapping[str, float]) -> dict[str, float]:
    corrected, largest = {}, 0.0
    for place, (name, p_value) in enumerate(sorted(p_values.items(), key=lambda entry: entry[1])):
        largest = max(largest, min(1.0, p_value * (len(p_values) - place)))
        corrected[name] = largest
    return corrected


def most_unusual(reference: Features, served: Features, count: int) -> list[tuple[int, str]]:
    """The served images, by their number, that lie farthest from what is usual, each with the feature in which it does.

    Far is the distance from the reference's median, in widths of the range that holds 98 % of the reference.
    """
    names = [name for name in reference if name != DECIDED]
    distances = []
    for name in names:
        low, middle, high = np.quantile(reference[name], _COMMON)
        distances.append(np.abs(served[name] - middle) / max(high - low, _NARROWEST))
    farthest = np.max(distances, axis=0)
    order = np.argsort(-farthest, kind="stable")[:count]
    return [(int(index), names[int(np.argmax([distance[index] for distance in distances]))]) for index in order]
