"""Two models on the same images: McNemar's test of whether one errs less often than the other."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Correct = npt.NDArray[np.bool_]


class McNemar(NamedTuple):
    """The images on which exactly one of two models is right, and how likely so uneven a split is by chance."""

    only_challenger: int
    only_champion: int
    p_value: float  # two-sided
    difference: float  # accuracy of the challenger less that of the champion


def exact_test(challenger: Correct, champion: Correct) -> McNemar:
    """Compare two models by which of the same images they decide right, `(n,)` bool each.

    The exact form of McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12, 1947: if both were equally good, each image on which one alone is right were a fair coin.

    Raises:
        ValueError: the arrays are not of one length, or empty.
    """
    from scipy.stats import binomtest  # half a second, which other verbs need not wait for

    if challenger.shape != champion.shape or challenger.ndim != 1 or not len(challenger):
        raise ValueError(f"expected one answer an image from both, found shapes {challenger.shape} and {champion.shape}")
    won, lost = int((challenger & ~champion).sum()), int((champion & ~challenger).sum())
    p_value = float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
    return McNemar(won, lost, p_value, float(challenger.mean() - champion.mean()))


def passes(result: McNemar, require: str, alpha: float) -> bool:
    """Whether the challenger is `non_inferior` (unless significantly worse) or `superior` (only if significantly better)."""
    significant = result.p_value <= alpha
    if require == "superior":
        return significant and result.difference > 0
    return not (significant and result.difference < 0)
