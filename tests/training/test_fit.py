from typing import Any

import keras
import numpy as np
import pytest

from pipeline.core import params
from pipeline.core.params import TrainParams
from pipeline.data.datasets import Split
from pipeline.training import fit, network
from pipeline.training.fit import DivergedError
from tests.chaos.conftest import LONG
from tests.conftest import ROOT

QUICK = {"epochs": 2, "batch_size": 100, "warmup_epochs": 0.0, "learning_rate": 0.002}


def train_params(**changes: Any) -> TrainParams:
    return params.load(ROOT / "params.yaml").train.model_copy(update=QUICK | changes)


FITTED, HELD_OUT = np.arange(2500), np.arange(2500, 3000)


@pytest.fixture(scope="module")
def data(subset: dict[str, Split]) -> Split:
    return subset["train"]


@pytest.fixture(scope="module")
def validation(data: Split) -> Split:
    return Split(data.images[HELD_OUT], data.labels[HELD_OUT])


def fit_network(data: Split, held_out: Any = HELD_OUT, **changes: Any) -> tuple[keras.Model, list[dict[str, float]]]:
    settings = train_params(**changes)
    model = network.build(params.ModelParams(hidden_units=(32,), activation="relu"), (28, 28), 10, settings.seed)
    return model, fit.fit(model, data, (FITTED, held_out), settings, lambda epoch, metrics: None)


@pytest.mark.skipif(not LONG, reason="tests/test_pipeline.py compares whole runs: make chaos")
def test_the_same_seed_gives_bit_identical_weights(data: Split) -> None:
    (first, history), (again, repeated), (other, _) = fit_network(data), fit_network(data), fit_network(data, seed=1)

    assert history == repeated
    for weights, same in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, same)
    assert not np.array_equal(first.get_weights()[0], other.get_weights()[0])


def test_training_lowers_the_loss(data: Split, validation: Split) -> None:
    model, history = fit_network(data, epochs=5)

    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert history[-1]["val_accuracy"] > 0.85
    predicted = model.predict(validation.images, verbose=0).argmax(axis=1)
    assert (predicted == validation.labels).mean() == pytest.approx(history[-1]["val_accuracy"])


def test_every_epoch_is_reported_as_it_ends(data: Split) -> None:
    reported: list[tuple[int, dict[str, float]]] = []
    model = network.build(params.ModelParams(hidden_units=(8,), activation="relu"), (28, 28), 10, 0)

    history = fit.fit(
        model, data, (FITTED, HELD_OUT), train_params(), lambda epoch, metrics: reported.append((epoch, metrics))
    )

    assert reported == list(enumerate(history, 1))
    assert set(history[0]) == {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"}


def test_a_cosine_schedule_warms_up_to_the_learning_rate_and_ends_at_zero(data: Split) -> None:
    _, history = fit_network(data, epochs=4, warmup_epochs=1.0)

    rates = [epoch["learning_rate"] for epoch in history]
    assert rates[0] == pytest.approx(0.002)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_a_constant_schedule_keeps_the_learning_rate(data: Split) -> None:
    _, history = fit_network(data, optimizer="sgd", schedule="constant", learning_rate=0.05)

    assert history[1]["loss"] < history[0]["loss"]
    assert history[1]["learning_rate"] == pytest.approx(0.05)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "nadam", "rmsprop", "sgd"])
def test_every_optimizer_that_the_parameters_allow_exists(optimizer: str) -> None:
    created = fit._optimizer(train_params(optimizer=optimizer, ema_momentum=0.9), steps=10)

    assert type(created).__name__.lower() == optimizer
    assert (created.use_ema, created.ema_momentum) == (True, 0.9)


def test_without_a_validation_split_there_are_no_validation_metrics(data: Split) -> None:
    _, history = fit_network(data, held_out=HELD_OUT[:0], early_stopping=1)

    assert set(history[0]) == {"loss", "accuracy", "learning_rate"}


def test_early_stopping_keeps_the_best_epoch_of_averaged_weights(data: Split, validation: Split) -> None:
    # The learning rate is so high that the validation loss soon rises again.
    model, history = fit_network(data, epochs=30, schedule="constant", learning_rate=0.03, early_stopping=2, ema_momentum=0.9)

    losses = [epoch["val_loss"] for epoch in history]
    assert len(history) == int(np.argmin(losses)) + 1 + 2 < 30
    probabilities = model.predict(validation.images, verbose=0)[np.arange(500), validation.labels]
    assert -np.log(probabilities).mean() == pytest.approx(min(losses), rel=1e-3)


def test_a_batch_size_above_the_number_of_images_uses_them_all(data: Split) -> None:
    _, history = fit_network(data, batch_size=100_000, schedule="constant")

    assert history[1]["loss"] < history[0]["loss"]


def test_every_epoch_uses_each_image_once_in_a_new_order(data: Split) -> None:
    numbered = Split(data.images, np.arange(3000, dtype=np.int32))
    calls, _, _ = plan = fit._plan(len(FITTED), 100)
    assert np.prod(plan) == 2500
    elements = fit._batches(numbered, FITTED, plan, seed=0).as_numpy_iterator()

    first, second = ([int(number) for _ in range(calls) for number in np.ravel(next(elements)[1])] for _ in range(2))

    assert sorted(first) == sorted(second) == list(range(2500))
    assert first != second


def test_the_averaged_weights_are_the_result(data: Split, validation: Split) -> None:
    (averaged, history), (last, _) = (fit_network(data, ema_momentum=momentum, schedule="constant") for momentum in (0.99, 0))

    assert not np.allclose(averaged.get_weights()[0], last.get_weights()[0])
    predicted = averaged.predict(validation.images, verbose=0).argmax(axis=1)
    assert (predicted == validation.labels).mean() == pytest.approx(history[-1]["val_accuracy"])


def test_a_loss_that_is_not_finite_stops_training_and_names_the_epoch(data: Split) -> None:
    with pytest.raises(DivergedError, match=r"in epoch 1: expected a finite loss, found (nan|inf)"):
        fit_network(data, optimizer="sgd", schedule="constant", learning_rate=1e38)
