"""Exact tests for a challenger that has learned something new: better on recent images, and not worse on the others."""

from bisect import bisect_left
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.promotion.mcnemar import Correct

_POWER = 0.9  # with which a difference should be found
_MOST_LABELS = 5000
_IMPLAUSIBLE = 0.02  # the share of alpha for shares of images outside their plausible interval
_SHARES = 9  # tried in that interval
_TINY = 1e-9  # a probability that is left out of sums


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

    The largest loss that a test does not reject at `alpha`. The test is exact: its p-value is the greatest over the shares of
    images that only one of the models gets right, as far as these shares are plausible (R. L. Berger and D. D. Boos, "P values
    maximized over a confidence set for the nuisance parameter", Journal of the American Statistical Association 89, 1994).
    """
    from scipy.optimize import bisect
    from scipy.stats import beta, binom

    won, lost, images = int((challenger & ~champion).sum()), int((champion & ~challenger).sum()), len(challenger)
    apart, outside = won + lost, alpha * _IMPLAUSIBLE
    if apart == images:
        return 1.0
    least = float(beta.ppf(outside / 2, apart, images - apart + 1)) if apart else 0.0
    most = float(beta.ppf(1 - outside / 2, apart + 1, images - apart))
    numbers = _numbers(images, least, most)

    def p_value(loss: float) -> float:
        """The probability of losing no more than observed, net, if the loss were this."""
        shares = np.linspace(max(least, abs(loss), _TINY), most, _SHARES)[:, np.newaxis]
        no_more = binom.cdf((lost - won + numbers) // 2, numbers, (1 + loss / shares) / 2)
        return outside + float((binom.pmf(numbers, images, shares) * no_more).sum(axis=1).max())

    return float(bisect(lambda loss: p_value(loss) - alpha, (lost - won) / images, most, xtol=1e-6))


def _numbers(images: int, least: float, most: float) -> npt.NDArray[np.int_]:
    """How many of so many images there can be, if a share from `least` to `most` of all images is such."""
    from scipy.stats import binom

    return np.arange(binom.isf(1 - _TINY, images, least), binom.isf(_TINY, images, most) + 1, dtype=np.int_)


def power(images: int, won: float, lost: float, alpha: float) -> float:
    """The probability that `better` finds a difference on so many images, if the challenger wins and loses these shares."""
    from scipy.stats import binom

    discordant = _numbers(images, won + lost, won + lost)
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
