"""The images that were selected for labelling, in the folder data/selected/.

- `images.npy`: `(n, height, width)` uint8, in the order in which to label them.
- `probabilities.npy`: `(n, classes)` float32, of the champion when they were selected.
- `selection.json`: the names of the classes, the model, the source, and for each image its `id` and its `part`: `random` or
  `informative`.
- `answers.jsonl`: what people answered so far (`answers.py`).
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from filelock import FileLock, Timeout

from pipeline.core import files
from pipeline.core.errors import first_line
from pipeline.core.paths import Paths
from pipeline.data.idx import Pixels
from pipeline.inference.onnx_model import Probabilities
from pipeline.monitoring.errors import BrokenSelectionError, BusySelectionError, NoSelectionError

Part = Literal["random", "informative"]

ANSWERS = "answers.jsonl"

_PARTS = get_args(Part)
_DIGITS = 16  # of an identifier: enough that no two of a million images share one


class Selection(NamedTuple):
    """Images to label, `(n, height, width)` uint8; each has probabilities `(n, classes)`, an identifier and a part."""

    images: Pixels
    probabilities: Probabilities
    ids: tuple[str, ...]
    parts: tuple[Part, ...]
    classes: tuple[str, ...]
    about: dict[str, Any]  # the model, the source and how many images it had


def identifiers(images: Pixels) -> tuple[str, ...]:
    """What names an image: the start of the SHA-256 of its pixels, so that equal images have equal names."""
    return tuple(hashlib.sha256(np.ascontiguousarray(image).data).hexdigest()[:_DIGITS] for image in images)


def write(selection: Selection, paths: Paths) -> None:
    """Write the selection in place of an earlier one."""
    items = [{"id": id_, "part": part} for id_, part in zip(selection.ids, selection.parts, strict=True)]
    with files.replacing_folder(paths.selected) as part:
        np.save(part / "images.npy", selection.images)
        np.save(part / "probabilities.npy", selection.probabilities)
        files.write_json(part / "selection.json", {**selection.about, "classes": selection.classes, "items": items})


def read(paths: Paths) -> Selection:
    """Read the selection.

    Raises:
        NoSelectionError: there is none.
        BrokenSelectionError: its files do not belong together.
    """
    record = paths.selected / "selection.json"
    if not record.is_file():
        raise NoSelectionError(paths.selected)
    about = files.read_json(record)
    try:
        items, classes = about.pop("items"), tuple(about.pop("classes"))
        images, probabilities = (np.load(paths.selected / f"{name}.npy") for name in ("images", "probabilities"))
        ids, parts = tuple(item["id"] for item in items), tuple(item["part"] for item in items)
    except Exception as error:  # a damaged file can make NumPy raise anything
        raise BrokenSelectionError(paths.selected, "its images, probabilities and items", first_line(error)) from error
    if ids != identifiers(images) or probabilities.shape != (len(ids), len(classes)) or not set(parts) <= set(_PARTS):
        raise BrokenSelectionError(paths.selected, "images that match selection.json", "others")
    return Selection(images, probabilities, ids, parts, classes, about)


@contextmanager
def exclusive(paths: Paths) -> Iterator[None]:
    """Keep other processes from selecting and labelling. Raises BusySelectionError if one does."""
    paths.data.mkdir(exist_ok=True)
    try:
        with FileLock(paths.selected_lock, timeout=0):
            yield
    except Timeout as error:
        raise BusySelectionError(paths.selected_lock) from error


def in_random_order(ids: Sequence[str]) -> list[int]:
    """An order that mixes the parts, so that people cannot tell them apart; equal images give an equal order."""
    return sorted(range(len(ids)), key=lambda index: hashlib.sha256(ids[index].encode()).digest())
