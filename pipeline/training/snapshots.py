"""Snapshots of the weights during training, from the random initialization on."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from pipeline.core import files
from pipeline.core.errors import UnusableInputError
from pipeline.data.datasets import Pixels

COUNT = 9  # at most; without the final weights, which are in the exported model

Weights = list[npt.NDArray[np.float32]]


class Snapshot(NamedTuple):
    """The weights after `epoch` epochs: 0 is the random initialization, a fraction lies within an epoch.

    `weights` are the kernel `(inputs, units)` and the bias `(units,)` of each dense layer, in order.
    """

    epoch: float
    weights: Weights


class SnapshotRecorder:
    """Takes snapshots after the steps that `schedule` lists."""

    def __init__(self) -> None:
        self.taken: list[Snapshot] = []
        self._due: frozenset[int] = frozenset()

    def start(self, total: int) -> None:
        """Begin a training of `total` steps."""
        self._due = frozenset(schedule(total))

    def offer(self, step: int, epoch: float, weights: Callable[[], Weights]) -> None:
        """Take a snapshot if one is due after `step` steps, which are `epoch` epochs. `weights` returns the weights."""
        if step in self._due:
            self.taken.append(Snapshot(epoch, weights()))


def schedule(total: int) -> list[int]:
    """After which of `total` steps to take a snapshot: 0, then geometrically spaced, because most changes happen early.

    A repeated step is replaced by the next one, so that a short training has as many snapshots.
    """
    steps = [0]
    for step in np.geomspace(1, max(1, total), COUNT):
        steps.append(max(steps[-1] + 1, round(float(step))))
    return [step for step in steps if step < total] or [0]


def save(taken: Sequence[Snapshot], path: Path) -> None:
    """Write the snapshots as float16: half the size, and its three digits are more than the explorer shows."""
    columns = zip(*(snapshot.weights for snapshot in taken), strict=True)
    arrays: dict[str, Any] = {f"weights_{index}": np.stack(column).astype(np.float16) for index, column in enumerate(columns)}
    with files.replacing(path) as part:
        np.savez(part, epochs=np.array([snapshot.epoch for snapshot in taken]), **arrays)


def load_distorted(path: Path) -> Pixels:
    """Read the saved result of `pipeline.training.augmentation.examples`.

    Raises:
        MissingInputError: there is no such file.
        UnusableInputError: it does not hold such images.
    """
    try:
        images = np.load(files.require(path), allow_pickle=False)
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise UnusableInputError(path, "distorted images", f"another file ({type(error).__name__})") from error
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4:
        raise UnusableInputError(path, "distorted images (n, copies, height, width) uint8", "another array")
    return images


def load(path: Path) -> list[Snapshot]:
    """Read what `save` wrote.

    Raises:
        MissingInputError: there is no such file.
        UnusableInputError: it does not hold snapshots.
    """
    try:
        with np.load(files.require(path), allow_pickle=False) as content:
            epochs = content["epochs"]
            stacks = [content[f"weights_{number}"].astype(np.float32) for number in range(len(content.files) - 1)]
    except (ValueError, KeyError, OSError, EOFError, BadZipFile, AttributeError) as error:
        raise UnusableInputError(path, "snapshots of a training run", f"another file ({type(error).__name__})") from error
    return [Snapshot(float(epoch), [stack[index] for stack in stacks]) for index, epoch in enumerate(epochs)]
