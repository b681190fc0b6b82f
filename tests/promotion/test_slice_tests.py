"""The tests on recent slices, and the rule that they make: simulated with models whose true accuracy is known."""

import json
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from pipeline.promotion import rules, slice_tests
from pipeline.promotion.rules import Candidate
from tests.chaos.conftest import LONG
from tests.promotion.test_rules import METRICS, rule

Rng = np.random.Generator


def pair(rng: Rng, images: int, won: float, lost: float, both_wrong: float = 0.01) -> tuple[Any, Any]:
    """The correctness of challenger and champion, with these shares of images that only one of them gets right."""
    drawn = rng.random(images)
    challenger = drawn > lost + both_wrong
    champion = ~((drawn > lost + both_wrong) & (drawn <= lost + both_wrong + won)) & ~(
        (drawn > lost) & (drawn <= lost + both_wrong)
    )
    return challenger, champion


def decided(seed: int, base: tuple[float, float], recent: tuple[float, float], images: int = 300) -> rules.Decision:
    """What the rule decides, given the shares won and lost on 10,000 test images and on a recent slice."""
    rng = np.random.default_rng(seed)
    mine, its = pair(rng, 10_000, *base)
    my_recent, its_recent = pair(rng, images, *recent)
    challenger = Candidate(2, "b", "two", mine, METRICS, {"recent": my_recent})
    champion = Candidate(1, "a", "one", its, METRICS, {"recent": its_recent})
    return rules.decide(challenger, champion, False, rule())


def promoted(seed: int, base: tuple[float, float], recent: tuple[float, float]) -> bool:
    return decided(seed, base, recent).promote


@pytest.mark.parametrize("won", [0.2, 0.02])
def test_the_decision_is_written_as_json(won: float) -> None:
    decision = decided(0, (0.004, 0.004), (won, 0.02))

    assert decision.promote is (won == 0.2)
    assert json.loads(json.dumps(decision.record()))["promote"] is decision.promote


def test_the_p_value_is_that_of_the_one_sided_binomial_test() -> None:
    challenger, champion = np.array([1, 1, 1, 1, 0, 1], bool), np.array([0, 0, 0, 1, 1, 1], bool)

    found = slice_tests.better(challenger, champion)

    assert (found.only_challenger, found.only_champion, found.images) == (3, 1, 6)
    assert found.p_value == pytest.approx(binomtest(3, 4, alternative="greater").pvalue)
    assert found.accuracies == (pytest.approx(3 / 6), pytest.approx(5 / 6))


@pytest.mark.parametrize(
    ("images", "won", "expected"),
    [(150, 0.10, 0.88), (300, 0.10, 0.995), (150, 0.07, 0.58), (300, 0.07, 0.88), (500, 0.07, 0.98)],
)
def test_power_is_that_of_the_exact_test(images: int, won: float, expected: float) -> None:
    found = slice_tests.power(images, won, 0.02, 0.05)

    assert found == pytest.approx(expected, abs=0.006)
    tried = [slice_tests.better(*pair(np.random.default_rng(seed), images, won, 0.02)) for seed in range(400)]
    assert np.mean([each.p_value <= 0.05 for each in tried]) == pytest.approx(
        found, abs=3 * np.sqrt(found * (1 - found) / 400)
    )


def test_the_number_of_labels_is_the_smallest_with_nine_tenths_of_power() -> None:
    count = slice_tests.labels_needed(0.07, 0.02, 0.05)

    assert count is not None
    assert slice_tests.power(count, 0.07, 0.02, 0.05) >= 0.9 > slice_tests.power(count - 50, 0.07, 0.02, 0.05)
    assert slice_tests.labels_needed(0.02, 0.02, 0.05) is None


def test_equal_models_are_promoted_no_more_often_than_alpha() -> None:
    pairs = 1000 if LONG else 300
    count = sum(promoted(seed, (0.005, 0.005), (0.05, 0.05)) for seed in range(pairs))

    assert count <= pairs * rule().alpha


def test_eight_points_on_a_slice_of_300_are_promoted() -> None:
    count = sum(promoted(seed, (0.004, 0.004), (0.10, 0.02)) for seed in range(100))

    assert count >= 95


def test_a_point_lost_on_the_test_split_is_never_promoted() -> None:
    count = sum(promoted(seed, (0.005, 0.015), (0.10, 0.02)) for seed in range(100))

    assert count == 0


@pytest.mark.parametrize(("images", "won", "lost"), [(2000, 0.01, 0.02), (300, 0.02, 0.05), (100, 0.2, 0.3)])
def test_the_bound_on_the_loss_holds_in_19_of_20_cases(images: int, won: float, lost: float) -> None:
    held = [
        slice_tests.greatest_loss(*pair(np.random.default_rng(seed), images, won, lost), alpha=0.05) >= lost - won
        for seed in range(300)
    ]

    assert np.mean(held) >= 0.95


def test_the_bound_on_the_loss_is_that_of_a_calculation_by_hand() -> None:
    """Of two images one is lost and none won. If the true loss is L, both are lost with probability L² at least."""
    found = slice_tests.greatest_loss(np.array([True, False]), np.array([True, True]), alpha=0.05)

    assert 1 - found**2 == pytest.approx(0.049, abs=1e-4)  # the rest of alpha is for the shares that are implausible


def test_of_two_slices_one_must_be_better_at_half_of_alpha_and_none_worse() -> None:
    better, equal, worse = (
        slice_tests.OneSided(300, won, 30 - won, p, (0.9, 0.9)) for won, p in ((22, 0.008), (15, 0.57), (8, 0.99))
    )
    nearly = slice_tests.OneSided(300, 20, 10, 0.049, (0.9, 0.93))

    assert slice_tests.superior({"one": better, "two": equal}, 0.05)
    assert slice_tests.superior({"one": nearly}, 0.05)
    assert not slice_tests.superior({"one": nearly, "two": equal}, 0.05)
    assert not slice_tests.superior({"one": better, "two": worse}, 0.05)


def test_the_sentence_says_both_and_how_many_labels_it_takes() -> None:
    mine, its = np.ones(10_000, bool), np.ones(10_000, bool)
    recent, old = np.ones(100, bool), np.ones(100, bool)
    old[:5], recent[5:7] = False, False
    challenger = Candidate(2, "b", "two", mine, METRICS, {"recent": recent})
    decision = rules.decide(challenger, Candidate(1, "a", "one", its, METRICS, {"recent": old}), False, rule())

    assert not decision.promote
    assert "recent images: expected significantly better than the champion (alpha 0.05)" in decision.sentence
    assert "found recent: 5 images won and 2 lost of 100" in decision.sentence
    assert "on 100 images of recent 98.00% against 95.00% (p = 0.227)" in decision.sentence
    assert "For a difference of 3.0%, recent needs about" in decision.sentence
    assert decision.record()["slices"]["recent"]["only_challenger"] == 5
