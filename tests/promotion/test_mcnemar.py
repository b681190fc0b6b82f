"""McNemar's test by hand, and the promises that the promotion rule makes about chance."""

import numpy as np
import pytest
from scipy.stats import binomtest

from pipeline.promotion.mcnemar import Correct, exact_test, passes

ALPHA = 0.05
IMAGES = 10_000


def answers(both: int, challenger: int, champion: int, neither: int = 0) -> tuple[Correct, Correct]:
    """Answers of two models of which so many are right with both, with one alone, and with neither."""
    counts = [both, challenger, champion, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def test_images_on_which_one_alone_is_right_are_a_fair_coin() -> None:
    result = exact_test(*answers(both=90, challenger=8, champion=2))

    # Of 10 throws, 8 or more heads, or 8 or more tails: 2 * (45 + 10 + 1) / 1024.
    assert result.p_value == pytest.approx(112 / 1024)
    assert (result.only_challenger, result.only_champion) == (8, 2)
    assert result.difference == pytest.approx(0.06)


def test_models_that_decide_alike_are_equal() -> None:
    assert exact_test(*answers(both=90, challenger=0, champion=0, neither=10)).p_value == 1


@pytest.mark.parametrize(
    ("challenger", "champion", "non_inferior", "superior"),
    [(20, 2, True, True), (2, 20, False, False), (6, 4, True, False), (4, 6, True, False), (0, 0, True, False)],
)
def test_non_inferior_gives_the_benefit_of_the_doubt_and_better_does_not(
    challenger: int, champion: int, non_inferior: bool, superior: bool
) -> None:
    result = exact_test(*answers(1000, challenger, champion))

    assert passes(result, "non_inferior", ALPHA) is non_inferior
    assert passes(result, "superior", ALPHA) is superior


def test_answers_to_different_images_are_not_compared() -> None:
    with pytest.raises(ValueError, match="one prediction per image from both"):
        exact_test(np.array([True]), np.array([True, False]))


def pairs(better_by: float, count: int) -> list[tuple[Correct, Correct]]:
    """Pairs of models with 1 % errors, of which they share two thirds, as two seeds of the default model do on MNIST."""
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(count):
        hard = random.random(IMAGES) < 0.0136
        own = np.where(hard, 0.7, 0.0005)
        champion = random.random(IMAGES) >= own + better_by
        drawn.append((random.random(IMAGES) >= own, champion))
    return drawn


def test_equally_good_models_are_promoted_as_better_no_more_often_than_alpha() -> None:
    promoted = sum(passes(exact_test(*pair), "superior", ALPHA) for pair in pairs(better_by=0, count=200))

    # The test is two-sided: half of its false alarms say that the challenger is worse. 200 trials of alpha at most.
    assert promoted <= ALPHA * 200
    assert binomtest(promoted, 200, ALPHA / 2, alternative="greater").pvalue > 0.001


def test_equally_good_models_are_refused_as_worse_no_more_often_than_alpha() -> None:
    refused = sum(not passes(exact_test(*pair), "non_inferior", ALPHA) for pair in pairs(better_by=0, count=200))

    assert refused <= ALPHA * 200


def test_a_model_better_by_half_a_point_is_promoted_nearly_always() -> None:
    promoted = sum(passes(exact_test(*pair), "superior", ALPHA) for pair in pairs(better_by=0.005, count=200))

    assert promoted >= 0.95 * 200
