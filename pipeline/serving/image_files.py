"""Images that nobody has labelled: pictures, and the images of npy, npz and IDX files."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from pipeline.core.errors import first_line
from pipeline.data import idx, npz
from pipeline.data.errors import IdxError
from pipeline.data.idx import Pixels
from pipeline.serving import preprocessing
from pipeline.serving.errors import UnreadableImageError

_MOST_BYTES = 4_000_000_000
_IMAGES = "images"  # which array of an npz file is meant where it holds several, as numpy.savez is called for fetch.extra


class Images(NamedTuple):
    """What a file holds, `(n, height, width)` uint8, and what was done to get it."""

    pixels: Pixels
    changes: tuple[str, ...] = ()


def read(path: Path, shape: tuple[int, int]) -> Images:
    """Read one picture, or the images of an npy, npz or IDX file, which must have the model's size.

    Raises:
        UnreadableImageError: the file is none of these, is damaged, or holds images of another size.
    """
    if decode := _decoder(path):
        return Images(_sized(decode(path), shape, path))
    picture = preprocessing.read(path, shape)
    return Images(picture.image[None], picture.changes)


def _decoder(path: Path) -> Callable[[Path], Pixels] | None:
    """What reads the arrays of such a file, by its name; None where it is no file of arrays."""
    if path.name.removesuffix(".gz").endswith(("ubyte", ".idx")):
        return _read_idx
    return {".npy": _read_npy, ".npz": _read_npz}.get(path.suffix)


def _read_idx(path: Path) -> Pixels:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream, TemporaryDirectory() as folder:
            npy = Path(folder) / "images.npy"
            idx.decode(cast(BinaryIO, stream), 3, npy, _MOST_BYTES)
            return np.asarray(np.load(npy, allow_pickle=False))
    except IdxError as error:
        raise UnreadableImageError(path, error.expected, error.found) from error
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableImageError(path, "an IDX file", str(error) or "one that is cut short") from error


def _read_npy(path: Path) -> Pixels:
    try:
        return np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except Exception as error:  # numpy reads the header as Python, so a damaged one fails in as many ways as Python has
        raise UnreadableImageError(path, "an npy file of numbers", first_line(error)) from error


def _read_npz(path: Path) -> Pixels:
    try:
        with path.open("rb") as stream:
            return npz.read(stream, _IMAGES, _MOST_BYTES)
    except IdxError as error:
        raise UnreadableImageError(path, error.expected, error.found) from error
    except OSError as error:
        raise UnreadableImageError(path, "an npz file", str(error)) from error


def _sized(found: Pixels, shape: tuple[int, int], path: Path) -> Pixels:
    pixels = found[None] if found.ndim == 2 else found
    if pixels.dtype != np.uint8 or pixels.shape[1:] != shape or not len(pixels):
        raise UnreadableImageError(path, f"uint8 (n, {shape[0]}, {shape[1]})", f"{found.dtype} {found.shape}")
    return pixels


def _files_of(source: Path) -> Iterator[Path]:
    """The file `source`, or the files directly in the folder `source`, by name."""
    if source.is_dir():
        yield from sorted(path for path in source.iterdir() if path.is_file() and not path.name.startswith("."))
    else:
        yield source


def read_arrays(source: Path, shape: tuple[int, int]) -> Pixels:
    """Every image of the npy, npz and IDX files of `source`, a file or a folder: `(n, height, width)` uint8, as they are.

    Raises:
        UnreadableImageError: a file is none of these, is damaged, or holds images of another size; or there is none.
    """
    parts = []
    for path in _files_of(source):
        decode = _decoder(path)
        if decode is None:  # a picture would be brought to the model's convention, and what is unusual in it be lost
            raise UnreadableImageError(path, "an npy, npz or IDX file", f"a file named otherwise (*{path.suffix})")
        parts.append(_sized(decode(path), shape, path))
    if not parts:
        raise UnreadableImageError(source, "a file, or a folder with files", "an empty folder")
    return np.concatenate(parts)
