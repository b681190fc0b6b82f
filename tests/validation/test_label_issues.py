import numpy as np
import pytest

from pipeline.data.datasets import Pixels, Split
from pipeline.validation import label_issues, near_duplicates
from pipeline.validation.label_issues import Labelled


@pytest.fixture(scope="module")
def samples(subset: dict[str, Split]) -> tuple[Labelled, Labelled]:
    """The training and the test split of the subset."""
    embedder = near_duplicates.fit(subset["train"].images)
    train, test = (
        Labelled(near_duplicates.embed(split.images, embedder).coefficients, split.labels) for split in subset.values()
    )
    return train, test


def blobs(count: int, classes: int = 3, seed: int = 0) -> Labelled:
    """Points around `classes` distant centres, `count` of each."""
    labels = np.tile(np.arange(classes, dtype=np.uint8), count)
    centres = np.eye(classes, 4) * 20
    return Labelled((centres[labels] + np.random.default_rng(seed).normal(size=(len(labels), 4))).astype(np.float32), labels)


def wrong(labels: Pixels, rows: list[int]) -> Pixels:
    changed = labels.copy()
    changed[rows] = (changed[rows] + 1) % 3
    return changed


def test_a_wrong_label_of_a_typical_image_is_an_issue() -> None:
    points = blobs(200)
    typical = np.eye(3, 4, dtype=np.float32) * 20
    features = np.concatenate([points.features, typical])
    labels = np.concatenate([points.labels, np.array([1, 1, 0], np.uint8)])

    (found,) = label_issues.find_label_issues(Labelled(features, labels), [], 3)

    assert np.flatnonzero(found).tolist() == [600, 602]


def test_about_half_of_the_wrong_labels_are_found_and_no_correct_ones() -> None:
    points = blobs(500)
    rows = list(range(0, 1500, 50))

    (found,) = label_issues.find_label_issues(points._replace(labels=wrong(points.labels, rows)), [], 3)

    assert set(np.flatnonzero(found)) <= set(rows)
    assert 8 <= found.sum() <= 24


def test_other_images_are_classified_by_a_model_of_the_base_only() -> None:
    points, others = blobs(200), blobs(100, seed=1)

    of_base, correct, off_by_one = label_issues.find_label_issues(
        points, [others, others._replace(labels=wrong(others.labels, list(range(300))))], 3
    )

    assert not of_base.any()
    assert not correct.any()
    assert 0.3 < off_by_one.mean() < 0.7


def test_few_mnist_labels_are_issues_unless_they_are_off_by_one(samples: tuple[Labelled, Labelled]) -> None:
    train, test = samples

    of_train, correct, off_by_one = label_issues.find_label_issues(
        train, [test, test._replace(labels=(test.labels + 1) % 10)], 10
    )

    assert of_train.mean() < 0.003
    assert correct.mean() < 0.004
    assert off_by_one.mean() > 0.3


def test_nearly_all_shuffled_labels_are_issues(samples: tuple[Labelled, Labelled]) -> None:
    train, _ = samples

    (found,) = label_issues.find_label_issues(
        train._replace(labels=np.random.default_rng(0).permutation(train.labels)), [], 10
    )

    assert found.mean() > 0.8


def test_small_classes_and_unknown_labels_are_skipped() -> None:
    points = blobs(200)
    labels = points.labels.copy()
    labels[labels == 2] = 7  # not a class
    few = blobs(20)

    assert not label_issues.find_label_issues(points._replace(labels=labels), [points], 3)[0].any()
    assert [len(found) for found in label_issues.find_label_issues(few, [points], 3)] == [60, 600]
    assert not np.concatenate(label_issues.find_label_issues(few, [points], 3)).any()


def test_constant_features_are_ignored() -> None:
    points = blobs(200)
    constant = np.zeros((600, 2), np.float32)

    found = label_issues.find_label_issues(Labelled(np.concatenate([points.features, constant], axis=1), points.labels), [], 3)

    assert not found[0].any()


def test_an_empty_set_has_no_issues() -> None:
    points = blobs(200)

    found = label_issues.find_label_issues(points, [Labelled(points.features[:0], points.labels[:0])], 3)

    assert len(found[1]) == 0


def test_cleanlab_agrees_on_clear_issues() -> None:
    """cleanlab, with another implementation of the classifier, as an independent oracle."""
    cleanlab = pytest.importorskip("cleanlab.filter")
    analysis = pytest.importorskip("sklearn.discriminant_analysis")
    selection = pytest.importorskip("sklearn.model_selection")
    points = blobs(500)
    labels = wrong(points.labels, list(range(0, 1500, 50)))
    probabilities = selection.cross_val_predict(
        analysis.QuadraticDiscriminantAnalysis(), points.features, labels, cv=5, method="predict_proba"
    )

    (found,) = label_issues.find_label_issues(points._replace(labels=labels), [], 3)

    by_cleanlab = cleanlab.find_label_issues(labels.astype(int), probabilities, n_jobs=1)
    assert set(np.flatnonzero(found)) <= set(np.flatnonzero(by_cleanlab))
    assert set(np.flatnonzero(by_cleanlab)) == set(range(0, 1500, 50))
