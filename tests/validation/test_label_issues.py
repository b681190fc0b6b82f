import numpy as np
import pytest

from pipeline.data.datasets import Pixels, Split
from pipeline.validation import label_issues, near_duplicates
from pipeline.validation.label_issues import Sample


@pytest.fixture(scope="module")
def samples(subset: dict[str, Split]) -> tuple[Sample, Sample]:
    """The training and the test split of the subset."""
    space = near_duplicates.fit(subset["train"].images)
    train, test = (Sample(near_duplicates.place(split.images, space).look, split.labels) for split in subset.values())
    return train, test


def blobs(count: int, classes: int = 3, seed: int = 0) -> Sample:
    """Points around `classes` centres that lie far apart, `count` of each."""
    given = np.tile(np.arange(classes, dtype=np.uint8), count)
    centres = np.eye(classes, 4) * 20
    return Sample((centres[given] + np.random.default_rng(seed).normal(size=(len(given), 4))).astype(np.float32), given)


def wrong(given: Pixels, rows: list[int]) -> Pixels:
    changed = given.copy()
    changed[rows] = (changed[rows] + 1) % 3
    return changed


def test_a_wrong_label_of_an_image_that_is_typical_of_its_class_is_doubted() -> None:
    points = blobs(200)
    typical = np.eye(3, 4, dtype=np.float32) * 20
    features = np.concatenate([points.features, typical])
    given = np.concatenate([points.labels, np.array([1, 1, 0], np.uint8)])

    (found,) = label_issues.doubtful(Sample(features, given), [], 3)

    assert np.flatnonzero(found).tolist() == [600, 602]


def test_about_half_of_the_wrong_labels_are_sure_and_none_of_the_right_ones() -> None:
    points = blobs(500)
    rows = list(range(0, 1500, 50))

    (found,) = label_issues.doubtful(points._replace(labels=wrong(points.labels, rows)), [], 3)

    assert set(np.flatnonzero(found)) <= set(rows)
    assert 8 <= found.sum() <= 24


def test_further_images_are_judged_by_the_base_alone() -> None:
    points, further = blobs(200), blobs(100, seed=1)

    of_base, right, off_by_one = label_issues.doubtful(
        points, [further, further._replace(labels=wrong(further.labels, list(range(300))))], 3
    )

    assert not of_base.any()
    assert not right.any()
    assert 0.3 < off_by_one.mean() < 0.7


def test_few_digits_are_doubted_and_many_of_those_off_by_one(samples: tuple[Sample, Sample]) -> None:
    train, test = samples

    of_train, right, off_by_one = label_issues.doubtful(train, [test, test._replace(labels=(test.labels + 1) % 10)], 10)

    assert of_train.mean() < 0.003
    assert right.mean() < 0.004
    assert off_by_one.mean() > 0.3


def test_shuffled_labels_are_nearly_all_doubted(samples: tuple[Sample, Sample]) -> None:
    train, _ = samples

    (found,) = label_issues.doubtful(train._replace(labels=np.random.default_rng(0).permutation(train.labels)), [], 10)

    assert found.mean() > 0.8


def test_classes_of_few_images_and_labels_that_are_none_are_left_out() -> None:
    points = blobs(200)
    given = points.labels.copy()
    given[given == 2] = 7  # no class
    few = blobs(20)

    assert not label_issues.doubtful(points._replace(labels=given), [points], 3)[0].any()
    assert [len(found) for found in label_issues.doubtful(few, [points], 3)] == [60, 600]
    assert not np.concatenate(label_issues.doubtful(few, [points], 3)).any()


def test_features_that_are_always_the_same_do_no_harm() -> None:
    points = blobs(200)
    constant = np.zeros((600, 2), np.float32)

    found = label_issues.doubtful(Sample(np.concatenate([points.features, constant], axis=1), points.labels), [], 3)

    assert not found[0].any()


def test_no_further_images_are_none_to_doubt() -> None:
    points = blobs(200)

    found = label_issues.doubtful(points, [Sample(points.features[:0], points.labels[:0])], 3)

    assert len(found[1]) == 0
