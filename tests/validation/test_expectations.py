from math import comb

import pytest

from pipeline.validation import expectations


@pytest.mark.parametrize(("share", "rows"), [(0.002, 3000), (0.002, 300), (0.5, 20), (0.01, 1)])
def test_the_maximum_count_is_the_smallest_that_chance_exceeds_in_at_most_0_1_percent(share: float, rows: int) -> None:
    def exceeded(count: int) -> float:
        return 1 - sum(comb(rows, hits) * share**hits * (1 - share) ** (rows - hits) for hits in range(count + 1))

    found = expectations.max_count(share, rows)

    assert exceeded(found) <= 0.001
    assert exceeded(found - 1) > 0.001


def test_shares_of_0_and_1_have_no_sampling_tolerance() -> None:
    assert expectations.max_count(0, 1000) == 0
    assert expectations.max_count(1, 1000) == 1000
