"""Whether the images that a model is asked about still look like those that it was validated on. Arrays in, checks out.

Four things are compared: ink and intensity of the images, and the mix of classes and the confidence of what the model decides.
A difference is drift when it is significant, so that few images raise no alarm by chance, and large, so that many raise none
for a trifle.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.core.datasets import Pixels
from pipeline.core.inference import Probabilities
from pipeline.core.params import DriftParams

Features = Mapping[str, npt.NDArray[np.float64]]

DECIDED = "class_mix"


class Check(NamedTuple):
    """One comparison of served images with the reference."""

    check: str
    effect: float  # 0 to 1: Kolmogorov and Smirnov's statistic, or the total variation distance of the class mixes
    p_value: float  # corrected for the number of checks
    drifted: bool


def features(images: Pixels, probabilities: Probabilities) -> Features:
    """What is compared, `(n,)` each: share of pixels above 0, mean pixel of 0 to 255, largest probability, class decided."""
    flat = images.reshape(len(images), -1)
    return {
        "ink_fraction": np.count_nonzero(flat, axis=1) / flat.shape[1],
        "mean_intensity": flat.mean(axis=1),
        "confidence": probabilities.max(axis=1).astype(np.float64),
        DECIDED: probabilities.argmax(axis=1).astype(np.float64),
    }


def compare(reference: Features, served: Features, classes: int, params: DriftParams) -> list[Check]:
    """Compare feature by feature: Kolmogorov and Smirnov's two-sample test, and a chi-squared test of the class mixes.

    The p-values are corrected by Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6, 1979: the chance of any false alarm is at most `params.alpha`.
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
        Check(name, effect, corrected[name], corrected[name] <= params.alpha and effect >= params.smallest_effect)
        for name, (effect, _) in found.items()
    ]


def _mixes(reference: npt.NDArray[np.float64], served: npt.NDArray[np.float64], classes: int) -> tuple[float, float]:
    """Total variation distance of two samples of classes, and the p-value of their being of one mix."""
    from scipy.stats import chi2_contingency

    counts = np.array([np.bincount(values.astype(int), minlength=classes) for values in (reference, served)])
    shares = counts / counts.sum(axis=1, keepdims=True)
    occurring = counts[:, counts.sum(axis=0) > 0]
    p_value = float(chi2_contingency(occurring).pvalue) if occurring.shape[1] > 1 else 1.0
    return float(np.abs(shares[0] - shares[1]).sum() / 2), p_value


def _holm(p_values: Mapping[str, float]) -> dict[str, float]:
    corrected, largest = {}, 0.0
    for place, (name, p_value) in enumerate(sorted(p_values.items(), key=lambda entry: entry[1])):
        largest = max(largest, min(1.0, p_value * (len(p_values) - place)))
        corrected[name] = largest
    return corrected
