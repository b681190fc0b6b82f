"""The training history, data/model/history.csv: the metrics of each epoch."""

import csv
from collections.abc import Sequence
from pathlib import Path

from pipeline.core import files
from pipeline.core.errors import UnusableInputError

Epoch = dict[str, float]  # metrics by name, such as val_loss


def write(path: Path, epochs: Sequence[Epoch]) -> None:
    """Write one row per epoch, numbered from 1. Nine digits tell any two float32 values apart."""
    rows = [[number, *(f"{value:.9g}" for value in metrics.values())] for number, metrics in enumerate(epochs, 1)]
    files.write_text(path, files.csv_text(["epoch", *epochs[0]], rows))


def read(path: Path) -> list[Epoch]:
    """Read what `write` wrote: the first entry is epoch 1.

    Raises:
        MissingInputError: there is no such file.
        UnusableInputError: the file is not a training history.
    """
    try:
        with files.require(path).open(encoding="utf-8", newline="") as file:
            rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
        numbers = [row.pop("epoch") for row in rows]
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        raise UnusableInputError(path, "a training history", f"another file ({type(error).__name__})") from error
    if not rows or numbers != list(range(1, len(rows) + 1)):
        raise UnusableInputError(path, "a row for each epoch, from 1", f"{len(rows)} row(s)")
    return rows
