"""The bounds of `validate` from a profile of the data, with margins for the next batch of the same kind.

A next batch is another sample of as many images. Shares and means vary by their sampling error, extremes by more: the margins
below keep the probability that one of the bounds refuses such a batch well below one in a hundred.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.data.datasets import Split

_RISK = 1e-5  # of one bound
_ROWS = (0.8, 1.25)
_REACH = 0.25  # of the observed range of a property of each image, beyond its ends
_LEAST = 0.02  # of the possible range
_DEEP = 10  # the margin is also twice the distance from the extreme to the tenth most extreme image
_MEAN = 0.1  # of the mean intensity: another day's light, beyond the sampling error
_RADII = (0.025, 0.02, 0.015, 0.01, 0.005, 0.0025, 0.001)
_FEW = 0.05  # of the images, near-duplicates that are plausible
_ROUNDING = 1e-4

Numbers = npt.NDArray[Any]


class Choice(NamedTuple):
    """A value for params.yaml, and the comment that says where it comes from."""

    key: str
    value: Any
    why: str


def from_profile(tables: Mapping[str, pd.DataFrame], rows: Mapping[str, int], classes: int, accepted: bool) -> list[Choice]:
    """The choices for section validate.

    Args:
        tables: of the images of each split, from `image_table`; for large data of an evenly spaced sample.
        rows: the number of images of each split.
        accepted: whether leaks and conflicting labels become a bound instead of 0.
    """
    both = pd.concat(tables.values(), ignore_index=True)
    smallest = min(len(table) for table in tables.values())
    shares = np.array([np.bincount(table["label"], minlength=classes)[:classes] / len(table) for table in tables.values()])
    spread = _quantile_of_sample_mean(both["mean"], smallest)
    mean = [float(table["mean"].mean()) for table in tables.values()]
    pixel = {name: each_image(both[column], 0, limit) for name, column, limit in _PROPERTIES}
    return [
        *(Choice(f"validate.rows.{name}", [math.floor(count * _ROWS[0]), math.ceil(count * _ROWS[1])], _rows_why(count))
          for name, count in rows.items()),
        Choice("validate.class_share", _class_share(shares, smallest), f"{_range(shares)} today, plus sampling error"),
        Choice("validate.class_divergence", *_divergence(shares, [len(table) for table in tables.values()])),
        *(Choice(f"validate.{name}", bounds, why) for name, (bounds, why) in pixel.items()),
        Choice(
            "validate.mean_intensity",
            [_down(min(mean) * (1 - _MEAN) - spread), min(255.0, _up(max(mean) * (1 + _MEAN) + spread))],
            f"{_range(mean)} today, 10% either way, plus sampling error",
        ),
        *_shares(tables, smallest, accepted),
    ]  # fmt: skip


_PROPERTIES = (("pixel_minimum", "minimum", 255), ("pixel_maximum", "maximum", 255), ("ink_fraction", "ink", 1))


def _rows_why(count: int) -> str:
    return f"{count:,} today; fewer than 80% or more than 125% are another data set"


def _range(values: Any) -> str:
    return f"{np.min(values):.4g} to {np.max(values):.4g}"


def each_image(values: Sequence[float] | Numbers, low: float, high: float) -> tuple[list[float], str]:
    """Bounds for a property of each image, between the limits `low` and `high`, and why.

    A property that all images share is bounded by its value: that there is none other is what was seen of every image.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    first, last = float(ordered[0]), float(ordered[-1])
    if first == last:
        return [whole(first), whole(last)], "in all images today"
    depth = min(_DEEP, len(ordered) - 1)
    reach = max(_REACH * (last - first), _LEAST * (high - low))
    below = max(reach, 2 * (float(ordered[depth]) - first)) if first > low else 0.0
    above = max(reach, 2 * (last - float(ordered[-1 - depth]))) if last < high else 0.0
    # What is above 0 in every image stays above 0: for ink, that refuses blank images.
    lower = max(first - below, first / 2 if first > low else low)
    return [whole(_down(max(low, lower))), whole(_up(min(high, last + above)))], f"{first:.4g} to {last:.4g} today"


def _class_share(shares: Numbers, rows: int) -> list[float]:
    from scipy.stats import binom

    risk = _RISK / shares.size
    low = binom.ppf(risk, rows, shares.min()) / rows
    high = binom.ppf(1 - risk, rows, shares.max()) / rows
    return [_down(low), _up(min(1.0, high))]


def _divergence(shares: Numbers, rows: Sequence[int]) -> tuple[float, str]:
    """Twice the number of samples times the divergence is chi-squared (Wilks), as in `expectations`."""
    from scipy.stats import chi2

    safe = np.maximum(shares, 1e-9)
    observed = float(max((a * np.log(a / b)).sum() for a in safe for b in safe)) if len(safe) > 1 else 0.0
    chance = float(chi2.ppf(1 - _RISK, shares.shape[1] - 1)) / 2 * sum(1 / count for count in rows)
    return _up(observed + chance), f"{observed:.4g} today, plus sampling error"


def _quantile_of_sample_mean(values: pd.Series, rows: int) -> float:
    from scipy.stats import norm

    return float(norm.ppf(1 - _RISK) * values.std(ddof=0) / math.sqrt(rows))


def _shares(tables: Mapping[str, pd.DataFrame], rows: int, accepted: bool) -> list[Choice]:
    """The shares of images that are flagged. Label issues get sampling tolerance in `validate` itself."""
    most = {flag: max(float(table[flag].mean()) for table in tables.values()) for flag in _FLAGS}
    wrong = most["conflicting_label"] if accepted else 0.0
    leaked = float(tables["train"]["leaked"].mean()) if accepted else 0.0
    return [
        Choice("validate.duplicates", _share(most["duplicate"], rows), f"{most['duplicate']:.4g} today, plus sampling error"),
        Choice("validate.conflicting_labels", _share(wrong, rows) if wrong else 0, "accepted" if wrong else "none today"),
        Choice("validate.leaked", _share(leaked, rows) if leaked else 0, "accepted" if leaked else "none today"),
        Choice(
            "validate.label_issues",
            _up(max(1.5 * most["label_issue"], 1 / rows)),
            f"{most['label_issue']:.4g} today, times 1.5",
        ),
    ]


_FLAGS = ("duplicate", "conflicting_label", "label_issue")


def _share(share: float, rows: int) -> float:
    """A bound on a share that was seen once, for other samples of `rows` images."""
    from scipy.stats import binom

    return _up(float(binom.ppf(1 - _RISK, rows, max(share, 1 / rows))) / rows)


def near_duplicate_distance(train: Split) -> Choice:
    """The largest radius, up to that of MNIST, that pairs no more images of different classes than the smallest does.

    Copies have one class, or are conflicts that the smallest radius finds, too. Too large a radius pairs other images.
    """
    from pipeline.validation import near_duplicates
    from pipeline.validation.near_duplicates import Candidates

    magnitudes = near_duplicates.embed(train.images, near_duplicates.fit(train.images)).magnitudes
    _, firsts = np.unique(magnitudes, axis=0, return_index=True)
    candidates = Candidates(train.images, magnitudes, np.sort(firsts))

    def paired(radius: float) -> tuple[int, int]:
        first, second = near_duplicates.duplicate_pairs(candidates, candidates, radius)
        return len(first), int((train.labels[first] != train.labels[second]).sum())

    conflicts = paired(_RADII[-1])[1]
    for radius in _RADII:
        pairs, differing = paired(radius)
        if differing <= conflicts and (pairs <= max(2, _FEW * len(train.labels)) or radius == _RADII[-1]):
            break
    return Choice("validate.near_duplicate_distance", radius, f"pairs {pairs:,} images today, {differing:,} of another class")


def _down(value: float) -> float:
    return whole(round(math.floor(value / _ROUNDING) * _ROUNDING, 4))


def _up(value: float) -> float:
    return whole(round(math.ceil(value / _ROUNDING) * _ROUNDING, 4))


def whole(value: float) -> float:
    """The same number as an integer where it is one, as people write it."""
    return int(value) if value == int(value) else value
