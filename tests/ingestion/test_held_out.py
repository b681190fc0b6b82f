"""A test split that is held out by content: it stays when more images come, has each class, and parts no near-duplicates."""

import numpy as np
import pytest

from pipeline.data.datasets import Split
from pipeline.ingestion import held_out

RADIUS = 0.025


@pytest.fixture
def images(subset: dict[str, Split]) -> Split:
    return Split(subset["train"].images[:1000], subset["train"].labels[:1000])


def test_about_the_share_of_each_class_is_held_out(images: Split) -> None:
    chosen = held_out.test_images(*images, 0.2, RADIUS)

    shares = [chosen[images.labels == label].mean() for label in range(10)]
    assert 0.15 < chosen.mean() < 0.25
    assert 0.05 < min(shares) <= max(shares) < 0.35


def test_an_image_stays_in_its_split_when_more_come_in_any_order(images: Split, subset: dict[str, Split]) -> None:
    before = held_out.test_images(*images, 0.2, RADIUS)
    order = np.random.default_rng(0).permutation(3000)

    after = held_out.test_images(subset["train"].images[order], subset["train"].labels[order], 0.2, RADIUS)

    np.testing.assert_array_equal(after[np.argsort(order)][:1000], before)


def test_copies_and_near_duplicates_stay_together(images: Split) -> None:
    shifted = np.roll(images.images, 1, axis=2)
    both = np.concatenate([images.images, images.images[:300], shifted])
    labels = np.concatenate([images.labels, images.labels[:300], images.labels])

    chosen = held_out.test_images(both, labels, 0.2, RADIUS)

    np.testing.assert_array_equal(chosen[:300], chosen[1000:1300])
    np.testing.assert_array_equal(chosen[:1000], chosen[1300:])
    assert held_out.test_images(both, labels, 0.2, 0)[:1000].tolist() != chosen[:1000].tolist()


def test_a_class_of_two_images_is_in_both_splits(images: Split) -> None:
    rare = np.where(np.arange(1000) < 2, 10, images.labels).astype(np.uint8)

    chosen = held_out.test_images(images.images, rare, 0.01, 0)

    assert chosen[:2].sum() == 1
    assert {int(label) for label in rare[chosen]} == set(range(11))
