"""The confidence interval of a share of images, such as an accuracy."""

import math
from statistics import NormalDist


def wilson(share: float, count: int) -> tuple[float, float]:
    """The bounds of the 95 % interval of a share of `count` images, 0 to 1.

    Wilson's method (Journal of the American Statistical Association 22, 1927). scipy.stats has it too, but takes a second to
    import.
    """
    z = NormalDist().inv_cdf(0.975)
    middle, half = share + z**2 / (2 * count), z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, (middle - half) / (1 + z**2 / count)), min(1.0, (middle + half) / (1 + z**2 / count))


def with_interval(share: float, count: int) -> str:
    """The share and its interval, for people: `99.08% [98.87%, 99.25%]`."""
    low, high = wilson(share, count)
    return f"{share:.2%} [{low:.2%}, {high:.2%}]"
