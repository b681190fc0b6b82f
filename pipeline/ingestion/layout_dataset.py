"""Read a whole data set in any layout into the four arrays of the base."""

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.core.fetch_params import FetchParams
from pipeline.data import idx
from pipeline.data.idx import Hashed, Pixels
from pipeline.ingestion import conversion, held_out, layouts
from pipeline.ingestion.conversion import Converted, Unreadable
from pipeline.ingestion.samples import ALL, Layout, LayoutError, Sample

_CHUNK = 4096  # images written at a time

Rows = tuple[Converted, npt.NDArray[np.intp]]


class ReadDataset(NamedTuple):
    """The arrays that were written, by name; the layout in words; and what was left out."""

    arrays: dict[str, Hashed]
    kind: str
    unreadable: list[Unreadable]
    notes: tuple[str, ...]


def divided(layout: Layout) -> dict[str, Iterator[Sample]]:
    """The images of `train` and `test`, or of ALL if a test split has to be held out.

    Validation images join the training split, from which the pipeline holds out its own; without a test split they are it.
    """
    splits = {name: stream() for name, stream in layout.splits.items()}
    if "train" not in splits:
        if ALL not in splits:
            raise LayoutError("the data", "training images", f"only {' and '.join(splits)}")
        return {ALL: splits[ALL]}
    if "test" not in splits:
        if "validation" not in splits:
            return {ALL: splits["train"]}
        return {"train": splits["train"], "test": splits["validation"]}
    return {"train": chain(splits["train"], splits.get("validation", ())), "test": splits["test"]}


def read(source: Path, params: FetchParams, radius: float, folder: Path) -> ReadDataset:
    """Write the four arrays of the data set at `source` to the folder `folder`.

    Args:
        radius: of near-duplicates, which a held-out test split keeps together.

    Raises:
        LayoutError: the layout is unknown, or something in it is wrong.
    """
    with TemporaryDirectory(prefix="layout-", dir=folder) as scratch:
        return _read(source, params, radius, folder, Path(scratch))


def _read(source: Path, params: FetchParams, radius: float, folder: Path, scratch: Path) -> ReadDataset:
    layout = layouts.recognise(source, scratch, params)
    rows = convert(layout, params, radius, scratch)
    unreadable = [each for part in {id(data): data for data, _ in rows.values()}.values() for each in part.unreadable]
    divided_by_hash = f", {params.test_share:.0%} held out for testing" if ALL in divided(layout) else ""
    return ReadDataset(write(rows, folder), layout.kind + divided_by_hash, unreadable, layout.notes)


def convert(layout: Layout, params: FetchParams, radius: float, scratch: Path) -> dict[str, Rows]:
    """The images of `train` and `test`, as the rows of what was converted to files in `scratch`."""
    converted: dict[str, Converted] = {}
    for name, samples in divided(layout).items():
        size = converted["train"].images.shape[1:] if converted else None
        converted[name] = conversion.convert(samples, params, scratch / f"{name}.raw", size)
    if ALL not in converted:
        return {name: (each, np.arange(len(each.labels))) for name, each in converted.items()}
    whole = converted[ALL]
    test = held_out.test_images(whole.images, whole.labels, params.test_share, radius)
    return {"train": (whole, np.flatnonzero(~test)), "test": (whole, np.flatnonzero(test))}


def write(rows: Mapping[str, Rows], folder: Path) -> dict[str, Hashed]:
    """Write the four arrays to the folder `folder`."""
    arrays = {}
    for split, (data, chosen) in rows.items():
        if not len(chosen):
            raise LayoutError(f"{split} split", "at least one image", "none")
        for kind, values in (("images", data.images), ("labels", data.labels)):
            shape = (len(chosen), *values.shape[1:])
            arrays[f"{split}_{kind}"] = idx.write(folder / f"{split}_{kind}.npy", shape, _chunks(values, chosen))
    return arrays


def _chunks(values: Pixels, rows: npt.NDArray[np.intp]) -> Iterator[bytes]:
    for start in range(0, len(rows), _CHUNK):
        yield values[rows[start : start + _CHUNK]].tobytes()
