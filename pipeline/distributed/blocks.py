"""Images in bulk: files of many images, in blocks that are read by themselves.

A block is some rows of an `.npy` or IDX file, or a row group of a Parquet file; a file that is compressed is read anew for
each. A Parquet file has a column `image`: the bytes of each image, height * width uint8, row after row.
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.core.errors import first_line
from pipeline.data.idx import Pixels
from pipeline.serving import image_files
from pipeline.serving.errors import UnreadableImageError

COLUMN = "image"


class Block(NamedTuple):
    """Rows `start` to `stop` of a file, `stop` excluded; `group` is the row group where the file is Parquet."""

    path: str
    name: str  # of the file within the source, as the name of a file
    start: int
    stop: int
    group: int | None = None

    @property
    def key(self) -> str:
        return f"{self.name}-{self.start:012d}"


def split_into_blocks(source: Path, rows: int, shape: tuple[int, int]) -> list[Block]:
    """Cut `source`, a file or a folder of such, into blocks of at most `rows` images, but for what comes in groups of its own.

    Raises:
        UnreadableImageError: there is no such file, it holds no images of `shape` (height, width), or is damaged.
    """
    paths = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
    found: list[Block] = []
    for path in paths:
        name = path.relative_to(source).as_posix().replace("/", "--") if source.is_dir() else path.name
        cut = _groups(path, shape) if path.suffix == ".parquet" else _even(_count(path, shape), rows)
        found.extend(Block(str(path.absolute()), name, *part) for part in cut)
    if not found:
        raise UnreadableImageError(source, "npy, npz, IDX or Parquet files", "none")
    return found


def _even(count: int, rows: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + rows, count)) for start in range(0, count, rows))


def _groups(path: Path, shape: tuple[int, int]) -> Iterator[tuple[int, int, int]]:
    file = _parquet(path)
    if COLUMN not in file.schema_arrow.names:
        raise UnreadableImageError(path, f"a column {COLUMN}", ", ".join(file.schema_arrow.names))
    start = 0
    for group in range(file.num_row_groups):
        stop = start + file.metadata.row_group(group).num_rows
        yield start, stop, group
        start = stop


def _parquet(path: Path) -> Any:
    from pyarrow import ArrowException, parquet

    try:
        return parquet.ParquetFile(path)
    except (ArrowException, OSError) as error:
        raise UnreadableImageError(path, "a Parquet file", first_line(error)) from error


def _count(path: Path, shape: tuple[int, int]) -> int:
    images = _mapped(path)
    return len(_sized(image_files.read(path, shape).pixels if images is None else images, shape, path))


def _mapped(path: Path) -> Pixels | None:
    """The images of a file that can be read in parts; None where it cannot, or is no such file."""
    if path.suffix == ".npy":
        try:
            return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        except (ValueError, OSError, EOFError) as error:
            raise UnreadableImageError(path, "an .npy file", str(error) or "one that is cut short") from error
    if path.name.endswith(("ubyte", ".idx")):
        with path.open("rb") as file:
            header = file.read(16)
        if len(header) == 16 and header[:4] == b"\0\0\x08\x03":
            sizes = struct.unpack(">3I", header[4:])
            if path.stat().st_size == 16 + math.prod(sizes) > 16:
                return np.asarray(np.memmap(path, np.uint8, "r", 16, sizes))
    return None


def _sized(images: Pixels, shape: tuple[int, int], path: Path) -> Pixels:
    if images.dtype != np.uint8 or images.shape[1:] != shape:
        height, width = shape
        raise UnreadableImageError(path, f"uint8 images (n, {height}, {width})", f"{images.dtype} {images.shape}")
    return images


def read_block(block: Block, shape: tuple[int, int]) -> Pixels:
    """The images of a block, `(n, height, width)` uint8.

    Raises:
        UnreadableImageError: they are not what they were when the source was cut, or of another size.
    """
    path = Path(block.path)
    if block.group is not None:
        column = _parquet(path).read_row_group(block.group, [COLUMN])[COLUMN]
        size = math.prod(shape)
        parts = [bytes(value.as_py() or b"") for value in column]
        if any(len(part) != size for part in parts):
            raise UnreadableImageError(path, f"{size} bytes an image", "others")
        images = np.frombuffer(b"".join(parts), np.uint8).reshape(-1, *shape)
    else:
        mapped = _mapped(path)
        images = _sized(image_files.read(path, shape).pixels if mapped is None else mapped, shape, path)[
            block.start : block.stop
        ]
    if len(images) != block.stop - block.start:
        raise UnreadableImageError(path, f"{block.stop - block.start:,} images from {block.start:,} on", f"{len(images):,}")
    return images
