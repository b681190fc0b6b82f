"""What adopt chooses for training and promotion, from numbers alone."""

import pytest

from pipeline.adoption import search
from pipeline.adoption.search import Measured, Trial
from pipeline.core import params as parameters
from tests.imports import ROOT

PARAMS = parameters.load(ROOT / "params.yaml")


@pytest.mark.parametrize(
    ("images", "batch", "epochs", "share"),
    [(60_000, 384, 26, 0.08), (1500, 16, 50, 0.2), (20, 16, 200, 0.2), (2_000_000, 384, 8, 0.08)],
)
def test_the_plan_of_training_follows_the_number_of_images(images: int, batch: int, epochs: int, share: float) -> None:
    planned = search.plan(PARAMS.train, images)

    assert (planned.batch_size, planned.epochs, planned.validation_split) == (batch, epochs, share)


def test_distances_of_the_augmentation_are_in_proportion_to_the_images() -> None:
    small, large = (search.strength("digits", (side, side), PARAMS.train.augmentation) for side in (14, 56))

    assert (small.shift, large.shift) == (0.5, 2)
    assert small.rotation == large.rotation == 7
    assert search.strength("none", (28, 28), PARAMS.train.augmentation).none


def test_minimums_are_below_what_the_first_model_reached_by_its_sampling_error() -> None:
    metrics = {"accuracy": 0.9, "worst_recall": 0.8, "shifted_accuracy": 0.7, "calibration_error": 0.02}
    chosen = {each.key: each.value for each in search.promotion(Measured(metrics, 1000, 100, 1000))}
    more = {each.key: each.value for each in search.promotion(Measured(metrics, 100_000, 10_000, 1000))}

    assert 0.86 < chosen["promote.minimum.accuracy"] < 0.88
    assert 0.89 < more["promote.minimum.accuracy"] < 0.9
    assert chosen["promote.minimum.worst_recall"] < 0.7
    assert chosen["promote.champion_accuracy"] < chosen["promote.minimum.accuracy"]
    assert chosen["promote.maximum.calibration_error"] > 0.04


def test_a_model_that_gets_nothing_right_has_a_minimum_of_0() -> None:
    metrics = dict.fromkeys(("accuracy", "worst_recall", "shifted_accuracy", "calibration_error"), 0.0)

    chosen = {each.key: each.value for each in search.promotion(Measured(metrics, 100, 10, 1000))}

    assert chosen["promote.minimum.worst_recall"] == 0


def test_choices_say_what_was_compared() -> None:
    trials = [Trial("none", 0.004, 0.3, 0.91), Trial("mild", 0.004, 0.2, 0.93), Trial("digits", 0.004, 0.4, 0.9)]
    chosen = {each.key: each for each in search.choices(PARAMS.train, trials)}

    assert chosen["train.augmentation"].why == "short runs on validation images: none 91.00%, mild 93.00%, digits 90.00%"
    assert chosen["train.learning_rate"].why.endswith("0.004 93.00%")
    assert chosen["train.augmentation.rotation"].why == "strength mild"
