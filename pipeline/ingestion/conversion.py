"""Turn the images of any layout into arrays of one size, one image at a time."""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.core.fetch_params import FetchParams
from pipeline.data import folders, image_codec
from pipeline.data.errors import ImageFileError
from pipeline.data.idx import Pixels
from pipeline.ingestion.samples import Grey, LayoutError, Sample

WHITE = 255


class Unreadable(NamedTuple):
    """An image file that was left out, and why."""

    name: str
    reason: str


class Converted(NamedTuple):
    """The images of a split (or of ALL) `(n, height, width)`, mapped from a file, and labels `(n,)`, both uint8.

    `ordinals` are the positions of the images among all samples, of which the `unreadable` ones were left out.
    """

    split: str
    images: Pixels
    labels: Pixels
    ordinals: npt.NDArray[np.int64]
    unreadable: list[Unreadable]


def convert(samples: Iterable[Sample], params: FetchParams, raw: Path, size: Sequence[int] | None = None) -> Converted:
    """Write the pixels of `samples` to the file `raw`, whose name without suffix is that of the split.

    Args:
        size: height and width of all images; default: `fetch.size`, or those of the first image.

    Raises:
        LayoutError: there is no image, one has another size, a value out of range, or an unknown label, or more than
            `fetch.max_unreadable` of the files cannot be read.
    """
    labels, unreadable, indices = bytearray(), list[Unreadable](), Labels(params.classes)
    ordinals = array("q")
    wanted = params.size or size
    with raw.open("wb") as out:
        for ordinal, sample, pixels in _read(samples, params, unreadable):
            wanted = wanted or pixels.shape
            ordinals.append(ordinal)
            labels.append(indices.index(sample))
            _append(out, sample, pixels, wanted, params)
    check_unreadable(unreadable, len(labels) + len(unreadable), params.max_unreadable)
    if not labels or wanted is None:
        raise LayoutError("images", "at least one", "none")
    images = np.memmap(raw, np.uint8, "r", shape=(len(labels), *wanted))
    read = np.frombuffer(bytes(labels), np.uint8), np.frombuffer(ordinals, np.int64)
    return Converted(raw.stem, np.asarray(images), *read, unreadable)


def _read(
    samples: Iterable[Sample], params: FetchParams, unreadable: list[Unreadable]
) -> Iterator[tuple[int, Sample, Pixels]]:
    for ordinal, sample in enumerate(samples):
        try:
            pixels = to_bytes(sample.pixels(), params.white, sample.name)
            yield ordinal, sample, WHITE - pixels if params.invert else pixels
        except (ImageFileError, OSError) as error:
            unreadable.append(Unreadable(sample.name, str(error)))


def check_unreadable(unreadable: Sequence[Unreadable], total: int, most: float) -> None:
    """Raise LayoutError if more than the share `most` of all `total` files cannot be read."""
    if len(unreadable) > most * total:
        named = folders.listed(f"{name} ({reason})" for name, reason in unreadable)
        share = f"{len(unreadable):,} of {total:,} ({len(unreadable) / total:.2%})"
        raise LayoutError("image files", f"at most {most:.2%} that cannot be read (fetch.max_unreadable)", f"{share}: {named}")


def to_bytes(values: Grey, white: float, where: str) -> Pixels:
    """Scale pixels of 0 to `white` to 0 to 255.

    Raises:
        LayoutError: one is out of range, or a fraction although `white` is 255.
    """
    if values.dtype == np.uint8 and white == WHITE:
        return values
    if values.dtype == np.bool_:
        return values * np.uint8(WHITE)
    exact = values.astype(np.float64)
    wrong = ~((exact >= 0) & (exact <= white))
    if white == WHITE:
        wrong |= exact != np.floor(exact)
    if wrong.any():
        kind = "whole numbers" if white == WHITE else "pixels"
        raise LayoutError(where, f"{kind} of 0 to {white:g} (fetch.white)", f"{exact[wrong][0]:g}")
    return np.asarray((exact * (WHITE / white)).round(), np.uint8)


def _append(out: BinaryIO, sample: Sample, pixels: Pixels, size: Sequence[int], params: FetchParams) -> None:
    if pixels.shape != tuple(size):
        if params.size is None:
            expected, found = ("x".join(map(str, shape)) for shape in (size, pixels.shape))
            raise LayoutError(sample.name, f"{expected}, as the images before it (fetch.size scales all to one size)", found)
        pixels = image_codec.fit(pixels, (size[0], size[1]))
    out.write(np.ascontiguousarray(pixels).data)


class Labels:
    """Looks up the index of a label: the position of its name in the classes, or a number that is the index."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._known: Mapping[str, int] = {name: number for number, name in enumerate(classes)}
        self._numbered = any(name.isdecimal() for name in classes)

    def index(self, sample: Sample) -> int:
        """Raise LayoutError if the label is none of the classes."""
        found = self._known.get(sample.label)
        if found is None and not self._numbered and sample.label.isdecimal() and int(sample.label) < len(self._known):
            found = int(sample.label)
        if found is None:
            known = folders.listed(map(repr, self._known), 10)
            raise LayoutError(sample.name, f"a label among fetch.classes ({known})", repr(sample.label))
        return found
