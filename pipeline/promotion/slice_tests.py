"""Exact tests for a challenger that has learned something new: better on recent images, and not worse on the others."""

from bisect import bisect_left
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from pipeline.promotion.mcnemar import Correct

_POWER = 0.9  # with which a difference should be found
_MOST_LABELS = 5000


class OneSided(NamedTuple):
    """The images of a slice on which exactly one of two models is correct.

    `p_value` is the probability of so many for the challenger if both were equally good; `accuracies` are those of the
    champion and of the challenger.
    """

    images: int
    only_challenger: int
    only_champion: int
    p_value: float
    accuracies: tuple[float, float]


def better(challenger: Correct, champion: Correct) -> OneSided:
    """Is the challenger better on these images? McNemar's exact test, one-sided; see `pipeline.promotion.mcnemar`."""
    from scipy.stats import binom

    won, lost = int((challenger & ~champion).sum()), int((champion & ~challenger).sum())
    p_value = float(binom.sf(won - 1, won + lost, 0.5))
    return OneSided(len(challenger), won, lost, p_value, (float(champion.mean()), float(challenger.mean())))


def superior(results: Mapping[str, OneSided], alpha: float) -> bool:
    """Whether the challenger is better on at least one of the slices, and on none worse.

    Each is tested at `alpha` divided by the number of slices (Bonferroni), so that equal models pass with probability `alpha`
    at most. Worse is judged at `alpha` itself.
    """
    from scipy.stats import binom

    worse = [binom.sf(each.only_champion - 1, each.only_challenger + each.only_champion, 0.5) for each in results.values()]
    return bool(min(each.p_value for each in results.values()) <= alpha / len(results) and min(worse) > alpha)


def greatest_loss(challenger: Correct, champion: Correct, alpha: float) -> float:
    """The accuracy that the challenger loses at most, with confidence 1 - `alpha`: negative if it surely wins some.

    The upper bound of the share of images that it loses, minus the lower bound of those that it wins, each exact at half of
    `alpha` (C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of the
    binomial", Biometrika 26, 1934). Together they hold with probability 1 - `alpha` at least, whatever the shares are.
    """
    from scipy.stats import beta

    won, lost, images = int((challenger & ~champion).sum()), int((champion & ~challenger).sum()), len(challenger)
    most_lost = float(beta.ppf(1 - alpha / 2, lost + 1, images - lost)) if lost < images else 1.0
    least_won = float(beta.ppf(alpha / 2, won, images - won + 1)) if won else 0.0
    return most_lost - least_won


def power(images: int, won: float, lost: float, alpha: float) -> float:
    """The probability that `better` finds a difference on so many images, if the challenger wins and loses these shares."""
    from scipy.stats import binom

    discordant = np.arange(images + 1)
    weights = binom.pmf(discordant, images, won + lost)
    needed = binom.isf(alpha, discordant, 0.5) + 1  # the fewest wins that are significant
    return float((weights * binom.sf(needed - 1, discordant, won / (won + lost))).sum())


def labels_needed(won: float, lost: float, alpha: float) -> int | None:
    """The number of labelled images, in steps of 50, with which such a difference is found in 9 of 10 cases.

    None if the challenger wins no more than it loses, or more than 5,000 would be needed.
    """
    if won <= lost:
        return None
    numbers = range(50, _MOST_LABELS + 1, 50)
    found = bisect_left(numbers, _POWER, key=lambda images: power(images, won, lost, alpha))
    return numbers[found] if found < len(numbers) else None
