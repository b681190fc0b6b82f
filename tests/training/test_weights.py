"""The weights of extra data sets: what is repeated, and which weight `auto` takes."""

from typing import Any

import numpy as np
import pytest

from pipeline.core.params import Params, TrainParams
from pipeline.data.datasets import Split
from pipeline.training import weights
from pipeline.training.weights import Predict, Rows
from tests.conftest import Repository

ROWS = [100, 40, 6]


@pytest.fixture
def params(built: Repository) -> Params:
    return built.params


@pytest.fixture
def data() -> Split:
    """Images whose first pixel is their label."""
    labels = (np.arange(sum(ROWS)) % 10).astype(np.uint8)
    images = np.zeros((len(labels), 2, 2), np.uint8)
    images[:, 0, 0] = labels
    return Split(images, labels)


PARTS = np.arange(20, sum(ROWS)), np.arange(20)


def test_each_row_is_repeated_as_often_as_its_segment_says() -> None:
    found = weights.repeated(np.array([0, 3, 101, 145]), ROWS, [1, 2, 5])

    assert found.tolist() == [0, 3, 101, 101, *[145] * 5]


def learner(best: int, asked: list[Any], rotation: float = 7) -> Any:
    """Stands for training: the further weight and rotation are from `best` and `rotation`, the worse the probabilities."""

    def fit(rows: Rows, params: TrainParams) -> Predict:
        weight = int((rows == rows[rows >= 100][0]).sum())
        asked.append((weight, set(rows.tolist()), params.epochs))
        sure = 0.9 - 0.012 * abs(weight - best) - 0.01 * abs(params.augmentation.rotation - rotation)

        def predict(images: Any) -> Any:
            probabilities = np.full((len(images), 10), (1 - sure) / 9)
            probabilities[np.arange(len(images)), images[:, 0, 0]] = sure
            return probabilities

        return predict

    return fit


@pytest.mark.parametrize("best", weights.WEIGHTS)
def test_auto_takes_the_weight_with_the_lowest_loss(best: int, data: Split, params: Params) -> None:
    asked: list[Any] = []

    found, strength, tried = weights.choose(data, PARTS, ROWS, [1, "auto", 4], params.train, learner(best, asked))

    assert (found, strength) == ([1, best, 4], 1)
    assert [each.weight for each in tried] == [*weights.WEIGHTS, *weights.WEIGHTS]
    used = asked[0][1]
    assert len(used & {*range(100, 140)}) == 20  # half of the recent images measure
    assert not used & {*range(20)}  # nor do validation images teach


def test_stronger_augmentation_is_taken_if_it_has_a_lower_loss(data: Split, params: Params) -> None:
    stronger = params.train.augmentation.times(1.5)

    found = weights.choose(data, PARTS, ROWS, [1, "auto", 4], params.train, learner(16, [], stronger.rotation))

    assert (found.weights, found.strength) == ([1, 16, 4], 1.5)
    assert (stronger.rotation, stronger.shift) == (10.5, 1.5)


def test_a_weight_that_costs_much_on_old_images_is_not_taken(data: Split, params: Params) -> None:
    data.images[100:, 1, 1] = 1  # marks the extra images

    def fit(rows: Rows, _: TrainParams) -> Predict:
        weight = int((rows == rows[rows >= 100][0]).sum())

        def predict(images: Any) -> Any:
            extra = images[:, 1, 1] == 1
            sure = np.where(extra, 0.3 + 0.009 * weight, 0.9 if weight <= 4 else 0.8)
            probabilities = np.repeat((1 - sure[:, None]) / 9, 10, axis=1)
            probabilities[np.arange(len(images)), images[:, 0, 0]] = sure
            return probabilities

        return predict

    found = weights.choose(data, PARTS, ROWS, [1, "auto", 1], params.train, fit)

    assert min(found.tried, key=lambda run: run.loss).weight == 64
    assert found.weights == [1, 4, 1]


def test_no_augmentation_is_not_made_stronger(data: Split, params: Params) -> None:
    none = params.train.augmentation.times(0)
    train = params.train.model_copy(update={"augmentation": none})

    found = weights.choose(data, PARTS, ROWS, [1, "auto", 4], train, learner(10, [], 14))

    assert (none.none, found.strength, len(found.tried)) == (True, 1, len(weights.WEIGHTS))


def test_too_few_recent_images_have_weight_1(data: Split, params: Params) -> None:
    found = weights.choose(data, PARTS, ROWS, [1, 7, "auto"], params.train, learner(3, []))

    assert found == ([1, 7, 1], 1, [])


def test_without_validation_images_the_weight_is_1(data: Split, params: Params) -> None:
    parts = np.arange(sum(ROWS)), np.arange(0)

    assert weights.choose(data, parts, ROWS, [1, "auto", 1], params.train, learner(3, [])).weights == [1, 1, 1]
