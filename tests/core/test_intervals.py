import pytest
from scipy.stats import binomtest

from pipeline.core import intervals


@pytest.mark.parametrize(("hits", "count"), [(0, 5), (5, 5), (1, 3), (9908, 10_000)])
def test_wilsons_interval_equals_that_of_scipy(hits: int, count: int) -> None:
    expected = binomtest(hits, count).proportion_ci(0.95, method="wilson")

    assert intervals.wilson(hits / count, count) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_a_share_is_shown_with_its_interval() -> None:
    # 90 of 100: (0.9 + z²/200 ± z sqrt(0.09/100 + z²/40000)) / (1 + z²/100) with z = 1.96.
    assert intervals.with_interval(0.9, 100) == "90.00% [82.56%, 94.48%]"
