"""Which images are selected: the random part without bias, the informative part without near-duplicates, and nothing known."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from pipeline.data.datasets import Pixels, Split
from pipeline.monitoring import selection
from pipeline.monitoring.selection import Chosen

RADIUS = 0.025


def unsure(count: int, seed: int = 0) -> Any:
    """Probabilities `(count, 10)`."""
    return np.random.default_rng(seed).dirichlet(np.full(10, 0.2), count).astype(np.float32)


def shifted(images: Pixels) -> Pixels:
    return np.roll(images, 2, axis=2)


def none_of(images: Pixels) -> Pixels:
    return images[:0]


@pytest.fixture
def pool(subset: dict[str, Split]) -> Pixels:
    return subset["train"].images[:400]


def choose(pool: Pixels, known: Pixels | None = None, random: int = 30, informative: int = 30, seed: int = 0) -> Chosen:
    known = none_of(pool) if known is None else known
    return selection.choose(pool, unsure(len(pool), seed), known, random, informative, RADIUS)


def test_the_random_part_depends_on_neither_the_predictions_nor_the_informative_part(pool: Pixels) -> None:
    chosen, other = choose(pool), choose(pool, informative=100, seed=1)

    np.testing.assert_array_equal(chosen.random, other.random)
    assert set(chosen.informative) != set(other.informative)
    np.testing.assert_array_equal(choose(pool).random, chosen.random)


def test_each_image_is_as_likely_to_be_in_the_random_part() -> None:
    """Pools that differ in one image draw independently."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 8, 8)).astype(np.uint8)
    drawn = np.zeros(len(noise))
    for value in range(128):
        pool = noise.copy()
        pool[-1, 0, 0] = value
        drawn[selection.choose(pool, unsure(40), none_of(pool), 10, 0, 0).random] += 1

    assert drawn.sum() == 1280
    assert chisquare(drawn).pvalue > 0.001


def test_the_parts_share_no_image_and_have_no_near_duplicates(pool: Pixels) -> None:
    twice = np.concatenate([pool, shifted(pool), pool])

    chosen = choose(twice, random=100, informative=100)

    originals = np.concatenate([chosen.random, chosen.informative]) % len(pool)
    assert len(chosen.random) == len(chosen.informative) == 100
    assert len(set(originals)) == 200


def test_what_is_labelled_or_nearly_the_same_is_not_offered_again(pool: Pixels) -> None:
    known = np.concatenate([pool[:100], shifted(pool[100:200])])

    chosen = choose(pool, known, random=400, informative=400)

    assert chosen.known == 200
    assert set(chosen.random) == set(range(200, 400))
    assert not len(chosen.informative)


def test_equal_images_are_known_also_where_near_duplicates_are_not_looked_for(pool: Pixels) -> None:
    chosen = selection.choose(pool, unsure(len(pool)), pool[:390], 400, 0, 0)

    assert sorted(chosen.random) == list(range(390, 400))


def test_the_informative_part_has_small_margins(pool: Pixels) -> None:
    chosen, margins = choose(pool, random=0), selection.margins(unsure(len(pool)))

    assert len(chosen.informative) == 30
    assert margins[chosen.informative].max() <= np.sort(margins)[2 * 30 - 1]


def test_the_informative_part_is_spread_over_clusters() -> None:
    """Of a crowd of alike images and a few others, all of them unsure, the few are chosen, too."""
    random = np.random.default_rng(0)
    crowd, few = random.normal(0, 0.1, (80, 3)), random.normal(0, 0.1, (9, 3)) + 10 * np.repeat(np.eye(3), 3, axis=0)
    features = np.concatenate([crowd, few]).astype(np.float32)
    ranked = np.arange(1000, 1089)

    chosen = selection.diverse(ranked, features, 20)

    assert len(set(chosen)) == 20
    assert {(row - 1080) // 3 for row in chosen if row >= 1080} == {0, 1, 2}
    assert (selection.diverse(ranked, features, 89) == ranked).all()


def test_the_margin_is_between_the_two_likeliest_classes() -> None:
    probabilities = np.array([[0.2, 0.5, 0.3], [1, 0, 0], [0.4, 0.2, 0.4]], np.float32)

    np.testing.assert_allclose(selection.margins(probabilities), [0.2, 1, 0], atol=1e-7)
