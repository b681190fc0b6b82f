"""Images that nobody has labelled: pictures, and the images of npy and IDX files."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from pipeline.core import idx, pictures
from pipeline.core.datasets import Pixels
from pipeline.core.errors import UnreadablePictureError

_MOST_BYTES = 4_000_000_000


class Images(NamedTuple):
    """What a file holds, `(n, height, width)` uint8, and what was done to get it."""

    pixels: Pixels
    changes: tuple[str, ...] = ()


def read(path: Path, shape: tuple[int, int]) -> Images:
    """Read one picture, or the images of an npy or IDX file, which must have the model's size.

    Raises:
        UnreadablePictureError: the file is none of these, is damaged, or holds images of another size.
    """
    if path.name.removesuffix(".gz").endswith(("ubyte", ".idx")):
        return Images(_sized(_read_idx(path), shape, path))
    if path.suffix == ".npy":
        return Images(_sized(_read_npy(path), shape, path))
    picture = pictures.read(path, shape)
    return Images(picture.image[None], picture.changes)


def _read_idx(path: Path) -> Pixels:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream, TemporaryDirectory() as folder:
            npy = Path(folder) / "images.npy"
            idx.decode(stream, 3, npy, _MOST_BYTES)  # type: ignore[arg-type]  # gzip's reader reads as any other
            return np.asarray(np.load(npy, allow_pickle=False))
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadablePictureError(path, "an IDX file", str(error) or "one that is cut short") from error


def _read_npy(path: Path) -> Pixels:
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise UnreadablePictureError(path, "an npy file of numbers", str(error).partition("\n")[0]) from error


def _sized(found: Pixels, shape: tuple[int, int], path: Path) -> Pixels:
    pixels = found[None] if found.ndim == 2 else found
    if pixels.dtype != np.uint8 or pixels.shape[1:] != shape or not len(pixels):
        raise UnreadablePictureError(path, f"uint8 (n, {shape[0]}, {shape[1]})", f"{found.dtype} {found.shape}")
    return pixels


def files_of(source: Path) -> Iterator[Path]:
    """The file `source`, or the files directly in the folder `source`, by name."""
    if source.is_dir():
        yield from sorted(path for path in source.iterdir() if path.is_file() and not path.name.startswith("."))
    else:
        yield source


def read_all(source: Path, shape: tuple[int, int]) -> Pixels:
    """Every image of `source`, a file or a folder: `(n, height, width)` uint8.

    Raises:
        UnreadablePictureError: a file holds no image of this size, or there is none.
    """
    parts = [read(path, shape).pixels for path in files_of(source)]
    if not parts:
        raise UnreadablePictureError(source, "files with images", "an empty folder")
    return np.concatenate(parts)
