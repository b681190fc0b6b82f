"""McNemar's exact test: does one of two models predict the same images better than the other?"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Correct = npt.NDArray[np.bool_]  # (n,): whether a model predicts the label of each image


class McNemar(NamedTuple):
    """The images on which exactly one of two models is correct, and the probability of so uneven a split by chance."""

    only_challenger: int
    only_champion: int
    p_value: float  # two-sided
    difference: float  # accuracy of the challenger minus that of the champion


def exact_test(challenger: Correct, champion: Correct) -> McNemar:
    """Compare two models by their predictions on the same n > 0 images.

    McNemar, "Note on the sampling error of the difference between correlated proportions or percentages", Psychometrika 12,
    1947, in its exact form: if both models were equally good, the one that is correct on an image where the other is not
    would follow a fair coin.

    Raises:
        ValueError: the arrays differ in length, or are empty.
    """
    from scipy.stats import binomtest  # takes half a second to import, which other verbs do not need

    if challenger.shape != champion.shape or challenger.ndim != 1 or not len(challenger):
        raise ValueError(f"expected one prediction per image from both, found shapes {challenger.shape} and {champion.shape}")
    won, lost = int((challenger & ~champion).sum()), int((champion & ~challenger).sum())
    p_value = float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
    return McNemar(won, lost, p_value, float(challenger.mean() - champion.mean()))


def passes(result: McNemar, require: str, alpha: float) -> bool:
    """Whether the challenger is `non_inferior` (not significantly worse) or `superior` (significantly better)."""
    significant = result.p_value <= alpha
    if require == "superior":
        return significant and result.difference > 0
    return not (significant and result.difference < 0)
