"""What every layout gives: labelled images, one at a time, so that memory does not grow with the data."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt

from pipeline.core.errors import PipelineError

Grey = npt.NDArray[Any]  # (height, width), of any type of numbers
Stream = Callable[[], Iterator["Sample"]]

ALL = "all"  # the split of data that are not divided into training and test images
_SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "t10k"),
    "validation": ("val", "valid", "validation", "dev"),
}


class LayoutError(PipelineError):
    """A file or folder is not in the layout that it seems to be in, or in none that is known."""

    def __init__(self, what: Path | str, expected: str, found: str) -> None:
        super().__init__(f"{what}: expected {expected}, found {found}")


class Sample(NamedTuple):
    """An image and the name of its class; `name` is its file or its row, for messages. `pixels` decodes it."""

    name: str
    label: str
    pixels: Callable[[], Grey]


class Layout(NamedTuple):
    """What was recognised: in words, the images of each split (or of ALL), and what was left out.

    `classes` are the names of the labels 0, 1 ... where the layout itself says them, otherwise empty.
    """

    kind: str
    splits: Mapping[str, Stream]
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def split_of(name: str) -> str | None:
    """The split that a file or folder name says: `sign_mnist_train.csv` is train, `t10k-images.gz` test."""
    words = set(re.split(r"[^a-z0-9]+|(?<=[a-z])(?=\d)", name.casefold())) | {name.casefold().partition("-")[0]}
    found = [split for split, spellings in _SPLITS.items() if words & set(spellings)]
    return found[0] if len(found) == 1 else None


def split_of_file(path: Path, root: Path) -> str | None:
    """The split that the name of a file says, or else that of a folder between `root` and the file."""
    names = reversed(path.relative_to(root).parts)
    return next((split for name in names if (split := split_of(name))), None)


def natural_key(text: str) -> tuple[Any, ...]:
    """Sort as people expect: `2` before `10`, and `b` after `A`."""
    parts = re.split(r"([0-9]+)", text.casefold())
    return (*(int(part) if number % 2 else part for number, part in enumerate(parts)), text)
