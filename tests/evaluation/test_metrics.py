"""Metrics of four samples, calculated by hand, and of random samples, compared with scikit-learn."""

from math import log

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from pipeline.evaluation import metrics
from pipeline.evaluation.metrics import Floats, Labels

# Predicted: 0, 1, 0, 2. The third is wrong.
LABELS = np.array([0, 1, 1, 2], np.uint8)
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.0, 0.0, 1.0]])
COUNTS = [[1, 0, 0], [1, 1, 0], [0, 0, 1]]


@pytest.fixture(scope="module")
def random_samples() -> tuple[Labels, Floats]:
    """Random labels of seven classes, and probabilities that are higher for them."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 7, 5000).astype(np.uint8)
    raw = random.random((5000, 7))
    raw[np.arange(5000), labels] += 0.4
    return labels, (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32)


def test_accuracy_of_four_samples() -> None:
    assert metrics.accuracy(LABELS, PROBABILITIES) == 0.75


def test_agreement_counts_equal_predictions_whether_correct_or_not() -> None:
    others = PROBABILITIES[[0, 1, 2, 1]]

    assert metrics.agreement(PROBABILITIES, PROBABILITIES) == 1
    assert metrics.agreement(PROBABILITIES, others) == 0.75


def test_log_loss_of_four_samples() -> None:
    assert metrics.log_loss(LABELS, PROBABILITIES) == pytest.approx(-(log(0.7) + log(0.8) + log(0.3) + log(1)) / 4)


def test_calibration_error_of_four_samples() -> None:
    # Bins of width 0.5: all confidences (0.7, 0.8, 0.6, 1) fall into the upper one, where 3 of 4 are correct.
    assert metrics.calibration_error(LABELS, PROBABILITIES, bins=2) == pytest.approx(abs(3.1 / 4 - 3 / 4))
    # Bins of width 0.25: 0.7 and 0.6, one of them correct, then 0.8 and 1, both correct.
    assert metrics.calibration_error(LABELS, PROBABILITIES, bins=4) == pytest.approx((2 * 0.15 + 2 * 0.1) / 4)


def test_reliability_lists_the_bins_with_samples() -> None:
    bins = metrics.reliability(LABELS, PROBABILITIES, bins=4)

    np.testing.assert_allclose(bins, [(0.65, 0.5, 2), (0.9, 1.0, 2)])


def test_confusion_of_four_samples() -> None:
    assert metrics.confusion(LABELS, PROBABILITIES).tolist() == COUNTS


def test_per_class_metrics_of_four_samples() -> None:
    first, second, third = metrics.per_class(np.array(COUNTS))

    assert first == {"images": 1, "precision": 1 / 2, "recall": 1.0, "f1": pytest.approx(2 / 3)}
    assert second == {"images": 2, "precision": 1.0, "recall": 1 / 2, "f1": pytest.approx(2 / 3)}
    assert third == {"images": 1, "precision": 1.0, "recall": 1.0, "f1": 1.0}


def test_accuracy_and_log_loss_agree_with_scikit_learn(random_samples: tuple[Labels, Floats]) -> None:
    labels, probabilities = random_samples

    assert metrics.accuracy(labels, probabilities) == sklearn_metrics.accuracy_score(labels, probabilities.argmax(axis=1))
    assert metrics.log_loss(labels, probabilities) == pytest.approx(sklearn_metrics.log_loss(labels, probabilities), rel=1e-6)


def test_confusion_and_per_class_metrics_agree_with_scikit_learn(random_samples: tuple[Labels, Floats]) -> None:
    labels, predicted = random_samples[0], random_samples[1].argmax(axis=1)
    counts = metrics.confusion(*random_samples)

    rows = [list(row.values()) for row in metrics.per_class(counts)]

    np.testing.assert_array_equal(counts, sklearn_metrics.confusion_matrix(labels, predicted))
    precision, recall, f1, images = sklearn_metrics.precision_recall_fscore_support(labels, predicted)
    np.testing.assert_allclose(rows, np.column_stack([images, precision, recall, f1]), rtol=1e-12)


def test_a_class_that_is_never_predicted_has_metrics_of_zero() -> None:
    metrics_of_class = metrics.per_class(np.array([[3, 0], [2, 0]]))[1]

    assert metrics_of_class == {"images": 2, "precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_a_class_without_samples_keeps_its_row_and_column() -> None:
    counts = metrics.confusion(np.array([0, 0], np.uint8), np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]]))

    assert counts.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert metrics.per_class(counts)[2] == {"images": 0, "precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_a_uint8_label_does_not_overflow() -> None:
    counts = metrics.confusion(np.array([199], np.uint8), np.eye(200)[[199]])

    assert counts[199, 199] == counts.sum() == 1


def test_a_label_of_probability_zero_gives_a_large_but_finite_loss() -> None:
    loss = metrics.log_loss(np.array([1]), np.array([[1.0, 0.0]], np.float32))

    assert 80 < loss < 100


def test_full_confidence_falls_into_the_last_bin() -> None:
    bins = metrics.reliability(np.array([0, 1]), np.array([[1.0, 0.0], [1.0, 0.0]]), bins=10)

    assert bins == [(1.0, 0.5, 2)]


def test_one_bin_compares_mean_confidence_with_accuracy() -> None:
    assert metrics.calibration_error(LABELS, PROBABILITIES, bins=1) == pytest.approx(abs(3.1 / 4 - 3 / 4))


def test_confidence_equal_to_accuracy_has_no_calibration_error() -> None:
    probabilities = np.tile([0.75, 0.25], (4, 1))

    assert metrics.calibration_error(np.array([0, 0, 0, 1]), probabilities, bins=15) == pytest.approx(0)
