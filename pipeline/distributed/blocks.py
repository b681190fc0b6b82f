"""Cut large sets of images into blocks that can be read independently.

A block is a range of rows of an npy, npz or IDX file, or a row group of a Parquet file. npy and plain IDX files are
memory-mapped; a compressed file is decompressed again for each of its blocks. A Parquet file has a column of bytes, `image` or
the only one: height * width uint8 each, row after row, or image files (PNG, JPEG ...) of the model's size. A struct with
bytes, as the Hugging Face hub serves, is read, too.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline.data import folders
from pipeline.data.idx import Pixels
from pipeline.serving import image_files, parquet_files
from pipeline.serving.errors import UnreadableImageError


class Block(NamedTuple):
    """Rows `start` to `stop` of a file, `stop` excluded; `group` is the row group of a Parquet file."""

    path: str
    name: str  # the file's path within the source, with "--" for "/"
    start: int
    stop: int
    group: int | None = None

    @property
    def key(self) -> str:
        return f"{self.name}-{self.start:012d}"

    @property
    def images(self) -> int:
        return self.stop - self.start


def split_into_blocks(source: Path, rows: int, shape: tuple[int, int]) -> list[Block]:
    """Cut `source`, a file or a folder, into blocks of at most `rows` images. A row group of Parquet stays whole.

    Raises:
        UnreadableImageError: there is no file, or a file is damaged or holds images of another shape than `shape`.
    """
    paths = sorted(folders.walk(source)) if source.is_dir() else [source]
    blocks: list[Block] = []
    for path in paths:
        name = path.relative_to(source).as_posix().replace("/", "--") if source.is_dir() else path.name
        if path.suffix == ".parquet":
            ranges: Iterator[tuple[int, ...]] = _row_groups(path)
        else:
            ranges = _ranges(len(image_files.read(path, shape).pixels), rows)
        blocks.extend(Block(str(path.absolute()), name, *each) for each in ranges)
    if not blocks:
        raise UnreadableImageError(source, "npy, npz, IDX or Parquet files", "none")
    return blocks


def _ranges(count: int, rows: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + rows, count)) for start in range(0, count, rows))


def _row_groups(path: Path) -> Iterator[tuple[int, int, int]]:
    file = parquet_files.opened(path)
    parquet_files.image_column(file, path)
    start = 0
    for group in range(file.num_row_groups):
        stop = start + file.metadata.row_group(group).num_rows
        yield start, stop, group
        start = stop


def read_block(block: Block, shape: tuple[int, int]) -> Pixels:
    """Read the images of a block, `(n, height, width)` uint8.

    Raises:
        UnreadableImageError: the file changed since the source was cut, or the images have another shape.
    """
    path = Path(block.path)
    if block.group is None:
        images = image_files.read(path, shape).pixels[block.start : block.stop]
    else:
        images = parquet_files.read_row_group(path, block.group, shape)
    if len(images) != block.images:
        raise UnreadableImageError(path, f"{block.images:,} images from row {block.start:,}", f"{len(images):,}")
    return images
