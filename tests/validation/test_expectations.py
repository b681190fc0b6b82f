from math import comb

import pytest

from pipeline.validation import expectations


@pytest.mark.parametrize(("share", "rows"), [(0.002, 3000), (0.002, 300), (0.5, 20), (0.01, 1)])
def test_the_count_is_exceeded_in_a_case_of_a_thousand_and_one_less_more_often(share: float, rows: int) -> None:
    def exceeded(count: int) -> float:
        return 1 - sum(comb(rows, hits) * share**hits * (1 - share) ** (rows - hits) for hits in range(count + 1))

    found = expectations.count(share, rows)

    assert exceeded(found) <= 0.001
    assert exceeded(found - 1) > 0.001


def test_what_never_or_always_happens_leaves_nothing_to_chance() -> None:
    assert expectations.count(0, 1000) == 0
    assert expectations.count(1, 1000) == 1000
