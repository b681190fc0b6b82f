"""The training loop: used by the train stage, sweeps and benchmarks."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pipeline.core.console import progress
from pipeline.core.errors import PipelineError
from pipeline.core.params import TrainParams
from pipeline.data.datasets import Split
from pipeline.data.history import Epoch
from pipeline.training import network
from pipeline.training.augmentation import RandomDistortion
from pipeline.training.snapshots import SnapshotRecorder

_IMAGES_PER_CALL = 4000  # at most, unless a batch is larger: enough to hide the overhead of a call, and 3 MB of MNIST
_VALIDATION_BATCH = 2000  # at most

Rows = npt.NDArray[np.intp]
Parts = tuple[Rows, Rows]
OnEpoch = Callable[[int, Epoch], None]


class DivergedError(PipelineError):
    """The loss is not finite."""

    def __init__(self, epoch: int, loss: float) -> None:
        super().__init__(
            f"training diverged in epoch {epoch}: expected a finite loss, found {loss}.\n"
            "No model was written. Lower train.learning_rate in params.yaml, or check the data."
        )


def fit(
    model: keras.Model,
    data: Split,
    parts: Parts,
    params: TrainParams,
    on_epoch: OnEpoch,
    recorder: SnapshotRecorder | None = None,
) -> list[Epoch]:
    """Fit `model` in place on augmented images of the training split `data`, read batch by batch.

    The same initial weights, seed, data and parameters give bit-identical weights on the same machine.

    Args:
        parts: the rows of `data` to fit on, and those to validate on. If the latter are empty, there are no `val_` metrics
            and early stopping monitors the training loss.
        on_epoch: called after each epoch with its number, from 1, and its metrics.
        recorder: takes snapshots of the weights during training.

    Returns:
        The metrics of each epoch: loss and accuracy on augmented training images, val_loss and val_accuracy on original
        validation images, and the learning rate at the end of the epoch.

    Raises:
        DivergedError: the loss of an epoch is not finite.
    """
    fitted, held_out = parts
    validated = len(held_out) > 0
    calls, batches, size = _plan(len(fitted), params.batch_size)
    trainer = _Trainer(model, params)
    trainer.compile(optimizer=_optimizer(params, steps=calls * batches), jit_compile=True)
    trainer.optimizer.build(trainer.trainable_variables)
    history = _History(on_epoch, params.epochs)
    observers = [history] if recorder is None else [history, _Snapshots(recorder, model, calls, params.epochs)]
    trainer.fit(
        _batches(data, fitted, (calls, batches, size), params.seed),
        steps_per_epoch=calls,
        shuffle=False,  # _batches shuffles
        epochs=params.epochs,
        validation_data=(data.images[held_out], data.labels[held_out]) if validated else None,
        validation_batch_size=_even(len(held_out), _VALIDATION_BATCH),
        callbacks=[*_callbacks(params, validated), *observers],
        verbose=0,
    )
    return history.epochs


class _Trainer(keras.Model):  # type: ignore[misc]
    """The augmentation followed by the layers of the network, trained on many batches per XLA call.

    The steps of a small network are so short that one call per step would take half as long again.
    """

    def __init__(self, model: keras.Model, params: TrainParams) -> None:
        images = keras.Input(model.input_shape[1:], dtype="uint8")
        distorted = RandomDistortion(params.augmentation, params.seed)(images)
        super().__init__(images, network.connect(distorted, model.layers[1:]), name="trainer")
        self.mean_loss = keras.metrics.Mean(name="loss")
        self.accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")

    def train_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One optimizer step per batch on images `(batches, batch, height, width)` and labels `(batches, batch)`."""
        images, labels = data

        def step(number: tf.Tensor) -> tuple[tf.Tensor]:
            with tf.GradientTape() as tape:
                loss = self._update(images[number], labels[number], training=True)
            self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
            return (number + 1,)

        tf.while_loop(lambda number: number < images.shape[0], step, (0,))
        return dict(self.get_metrics_result())

    def test_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Images `(batch, height, width)` and labels `(batch,)`."""
        self._update(*data, training=False)
        return dict(self.get_metrics_result())

    def _update(self, images: tf.Tensor, labels: tf.Tensor, training: bool) -> tf.Tensor:
        """Update the metrics with a batch and return its mean loss."""
        probabilities = self(images, training=training)
        losses = keras.losses.sparse_categorical_crossentropy(labels, probabilities)
        self.mean_loss.update_state(losses)
        self.accuracy.update_state(labels, probabilities)
        return tf.reduce_mean(losses)


def _plan(count: int, batch_size: int) -> tuple[int, int, int]:
    """Plan an epoch of `count` images: calls, batches per call, and images per batch.

    All batches have one size, because XLA compiles the network for each new size.
    """
    size = min(batch_size, count)
    whole = count // size
    most = min(whole, max(1, _IMAGES_PER_CALL // size))
    candidates = range((most + 1) // 2, most + 1)
    batches = max(candidates, key=lambda number: (whole // number * number, number))  # drops the fewest images
    return whole // batches, batches, size


def _batches(data: Split, rows: Rows, plan: tuple[int, int, int], seed: int) -> tf.data.Dataset:
    """An endless dataset of the images `rows` of `data`, reshuffled each epoch: one element per call of `plan`.

    The images left over at the end of an epoch are others each time.
    """
    calls, batches, size = plan

    def epoch(drawn: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(tf.constant(rows), seed=drawn)[: calls * batches * size]
        return tf.data.Dataset.from_tensor_slices(tf.reshape(order, plan))

    def read(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # NumPy reads only the rows that it needs of the memory-mapped arrays; TensorFlow would copy all of them.
        types = (data.images.dtype, data.labels.dtype)
        images, labels = tf.numpy_function(lambda taken: (data.images[taken], data.labels[taken]), [index], types)
        return tf.ensure_shape(images, (batches, size, *data.images.shape[1:])), tf.ensure_shape(labels, (batches, size))

    options = tf.data.Options()
    options.autotune.enabled = False  # there is nothing to tune, and fit would wait seconds for its thread to end
    return tf.data.Dataset.random(seed).batch(2).flat_map(epoch).map(read).prefetch(1).with_options(options)


def _even(count: int, most: int) -> int:
    """The batch size, `most` at most, that splits `count` samples into the fewest batches of nearly equal size."""
    return math.ceil(count / max(1, math.ceil(count / most))) or 1


def _optimizer(params: TrainParams, steps: int) -> keras.optimizers.Optimizer:
    rate: Any = params.learning_rate
    warmup, total = round(params.warmup_epochs * steps), params.epochs * steps
    if params.schedule == "cosine" or warmup:
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warmup else params.learning_rate,
            decay_steps=max(1, total - warmup),
            alpha=0.0 if params.schedule == "cosine" else 1.0,
            warmup_target=params.learning_rate if warmup else None,
            warmup_steps=warmup,
        )
    return keras.optimizers.get(
        {
            "class_name": params.optimizer,
            "config": {
                "learning_rate": rate,
                "use_ema": params.ema_momentum > 0,
                "ema_momentum": params.ema_momentum or 0.99,
            },
        }
    )


def _callbacks(params: TrainParams, validated: bool) -> list[keras.callbacks.Callback]:
    callbacks: list[keras.callbacks.Callback] = []
    if params.ema_momentum:
        # Validate and stop early with the averaged weights: these are the ones that are kept.
        callbacks.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    if params.early_stopping:
        monitor = "val_loss" if validated else "loss"
        callbacks.append(keras.callbacks.EarlyStopping(monitor, patience=params.early_stopping, restore_best_weights=True))
    return callbacks


class _History(keras.callbacks.Callback):  # type: ignore[misc]
    """Collects the metrics of each epoch, updates the progress bar, and stops if the loss is not finite."""

    def __init__(self, on_epoch: OnEpoch, total: int) -> None:
        super().__init__()
        self.on_epoch = on_epoch
        self.total = total
        self.epochs: list[Epoch] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.bar = progress("training", "epoch", total=self.total)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if not np.isfinite(logs["loss"]):
            self.bar.close()
            raise DivergedError(len(self.epochs) + 1, float(logs["loss"]))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        metrics = {name: float(value) for name, value in logs.items()}
        metrics["learning_rate"] = float(self.model.optimizer.learning_rate)
        self.epochs.append(metrics)
        self.bar.set_postfix({name: f"{metrics[name]:.4f}" for name in ("loss", "val_accuracy") if name in metrics})
        self.bar.update()
        self.on_epoch(epoch + 1, metrics)

    def on_train_end(self, logs: Any = None) -> None:
        self.bar.close()


class _Snapshots(keras.callbacks.Callback):  # type: ignore[misc]
    """Offers the weights to the recorder before the first call and after each call."""

    def __init__(self, recorder: SnapshotRecorder, model: keras.Model, calls: int, epochs: int) -> None:
        super().__init__()
        self.recorder, self.network, self.calls, self.epochs = recorder, model, calls, epochs
        self.done = 0

    def on_train_begin(self, logs: Any = None) -> None:
        self.recorder.start(self.calls * self.epochs)
        self._offer()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.done += 1
        self._offer()

    def _offer(self) -> None:
        self.recorder.offer(self.done, self.done / self.calls, self.network.get_weights)
