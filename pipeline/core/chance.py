"""What chance may do to a sample: how far it may be from what it was drawn from, but in a case of a thousand."""

from scipy.stats import binom, chi2

_RARELY = 0.001


def divergence(categories: int, rows: tuple[int, int]) -> float:
    """The KL divergence, in nats, that two samples of one distribution exceed in a case of a thousand.

    By Wilks' theorem twice the number of samples times the divergence is distributed as chi-squared (S. S. Wilks 1938, The
    Large-Sample Distribution of the Likelihood Ratio); of two samples, half their harmonic mean counts.
    """
    first, second = rows
    return float(chi2.ppf(1 - _RARELY, categories - 1)) / 2 * (1 / first + 1 / second)


def count(share: float, rows: int) -> int:
    """How many of `rows` are exceeded in a case of a thousand by what happens to each with the probability `share`."""
    return int(binom.ppf(1 - _RARELY, rows, share))
