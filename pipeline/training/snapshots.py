"""Snapshots: the network's weights at moments of training, from the random start on."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from pipeline.core import files
from pipeline.core.errors import UnusableInputError
from pipeline.data.datasets import Pixels

COUNT = 9  # at most; the end is not among them, because the exported model is the end

Weights = list[npt.NDArray[np.float32]]


class Snapshot(NamedTuple):
    """The weights after `epoch` epochs, a fraction where it was within one; 0 is the random start.

    `weights` are kernel `(inputs, units)` and bias `(units,)` of each dense layer in turn.
    """

    epoch: float
    weights: Weights


class Recorder:
    """Takes the weights at the moments that `moments` tells."""

    def __init__(self) -> None:
        self.taken: list[Snapshot] = []
        self._due: frozenset[int] = frozenset()

    def start(self, total: int) -> None:
        """Training of `total` steps begins."""
        self._due = frozenset(moments(total))

    def offer(self, step: int, epoch: float, weights: Callable[[], Weights]) -> None:
        """`step` steps, which are `epoch` epochs, are done; `weights` reads them, if now is a moment."""
        if step in self._due:
            self.taken.append(Snapshot(epoch, weights()))


def moments(total: int) -> list[int]:
    """After which of `total` steps to take a snapshot: 0, then each later by the same factor, because most happens early.

    Where the factor would name a step twice, the next one is taken: a short training is shown in as many moments.
    """
    taken = [0]
    for step in np.geomspace(1, max(1, total), COUNT):
        taken.append(max(taken[-1] + 1, round(float(step))))
    return [step for step in taken if step < total] or [0]


def save(taken: Sequence[Snapshot], path: Path) -> None:
    """Write the snapshots in float16: half the size, and three digits, which is more than a picture shows."""
    columns = zip(*(snapshot.weights for snapshot in taken), strict=True)
    arrays: dict[str, Any] = {f"weights_{place}": np.stack(column).astype(np.float16) for place, column in enumerate(columns)}
    with files.replacing(path) as part:
        np.savez(part, epochs=np.array([snapshot.epoch for snapshot in taken]), **arrays)


def load_distorted(path: Path) -> Pixels:
    """Read what `pipeline.training.augmentation.examples` returned.

    Raises:
        MissingInputError: there is no such file.
        UnusableInputError: it is something else.
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
        UnusableInputError: it is something else.
    """
    try:
        with np.load(files.require(path), allow_pickle=False) as content:
            epochs = content["epochs"]
            stacks = [content[f"weights_{number}"].astype(np.float32) for number in range(len(content.files) - 1)]
    except (ValueError, KeyError, OSError, EOFError, BadZipFile, AttributeError) as error:
        raise UnusableInputError(path, "snapshots of a training", f"another file ({type(error).__name__})") from error
    return [Snapshot(float(epoch), [stack[place] for stack in stacks]) for place, epoch in enumerate(epochs)]
