"""McNemar's test against a calculation by hand, and how often the promotion rule errs by chance."""

import numpy as np
import pytest
from scipy.stats import binomtest

from pipeline.promotion.mcnemar import Correct, exact_test, passes

ALPHA = 0.05
IMAGES = 10_000


def predictions(both: int, challenger: int, champion: int, neither: int = 0) -> tuple[Correct, Correct]:
    """Whether two models are correct: this many times both, only one of them, and neither."""
    counts = [both, challenger, champion, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def test_the_p_value_is_that_of_a_fair_coin() -> None:
    result = exact_test(*predictions(both=90, challenger=8, champion=2))

    # At least 8 heads or at least 8 tails in 10 throws: 2 * (45 + 10 + 1) / 1024.
    assert result.p_value == pytest.approx(112 / 1024)
    assert (result.only_challenger, result.only_champion) == (8, 2)
    assert result.difference == pytest.approx(0.06)


def test_models_with_the_same_predictions_are_equal() -> None:
    assert exact_test(*predictions(both=90, challenger=0, champion=0, neither=10)).p_value == 1


@pytest.mark.parametrize(
    ("challenger", "champion", "non_inferior", "superior"),
    [(20, 2, True, True), (2, 20, False, False), (6, 4, True, False), (4, 6, True, False), (0, 0, True, False)],
)
def test_a_doubtful_result_is_non_inferior_but_not_superior(
    challenger: int, champion: int, non_inferior: bool, superior: bool
) -> None:
    result = exact_test(*predictions(1000, challenger, champion))

    assert passes(result, "non_inferior", ALPHA) is non_inferior
    assert passes(result, "superior", ALPHA) is superior


def test_predictions_of_different_images_are_refused() -> None:
    with pytest.raises(ValueError, match="one prediction per image from both"):
        exact_test(np.array([True]), np.array([True, False]))


def pairs(better_by: float, count: int) -> list[tuple[Correct, Correct]]:
    """Pairs of models with 1 % errors that share two thirds of them, like two seeds of the default model on MNIST."""
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(count):
        hard = random.random(IMAGES) < 0.0136
        own = np.where(hard, 0.7, 0.0005)
        champion = random.random(IMAGES) >= own + better_by
        drawn.append((random.random(IMAGES) >= own, champion))
    return drawn


def test_equal_models_are_called_superior_no_more_often_than_alpha() -> None:
    promoted = sum(passes(exact_test(*pair), "superior", ALPHA) for pair in pairs(better_by=0, count=200))

    # The test is two-sided: half of its false alarms say that the challenger is worse.
    assert promoted <= ALPHA * 200
    assert binomtest(promoted, 200, ALPHA / 2, alternative="greater").pvalue > 0.001


def test_equal_models_are_called_inferior_no_more_often_than_alpha() -> None:
    refused = sum(not passes(exact_test(*pair), "non_inferior", ALPHA) for pair in pairs(better_by=0, count=200))

    assert refused <= ALPHA * 200


def test_a_model_better_by_half_a_percentage_point_is_nearly_always_superior() -> None:
    promoted = sum(passes(exact_test(*pair), "superior", ALPHA) for pair in pairs(better_by=0.005, count=200))

    assert promoted >= 0.95 * 200
