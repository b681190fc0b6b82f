"""Read images from Parquet files: a column of pixels, as capture writes, or of image files, as the Hugging Face hub has."""

import math
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import first_line
from pipeline.data import image_codec, parquet_images
from pipeline.data.errors import ImageFileError
from pipeline.data.idx import Pixels
from pipeline.serving.errors import UnreadableImageError

COLUMN = "image"

_IMAGE_FILES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF")  # how PNG, JPEG, GIF and WebP begin


def read(path: Path, shape: tuple[int, int]) -> Pixels:
    """Read all images of a file, `(n, height, width)` uint8.

    Raises:
        UnreadableImageError: it is damaged, has no images, or images of another shape.
    """
    groups = range(opened(path).num_row_groups)
    parts = [read_row_group(path, group, shape) for group in groups]
    return np.concatenate(parts) if parts else np.empty((0, *shape), np.uint8)


def image_column(file: Any, path: Path) -> str:
    names = file.schema_arrow.names
    column = COLUMN if COLUMN in names else parquet_images.image_column(file.schema_arrow)
    if column is None:
        raise UnreadableImageError(path, f"a column {COLUMN}", ", ".join(names))
    return column


def opened(path: Path) -> Any:
    from pyarrow import ArrowException, parquet

    try:
        return parquet.ParquetFile(path)
    except (ArrowException, OSError) as error:
        raise UnreadableImageError(path, "a Parquet file", first_line(error)) from error


def read_row_group(path: Path, group: int, shape: tuple[int, int]) -> Pixels:
    file = opened(path)
    column = image_column(file, path)
    values = file.read_row_group(group, [column])[column].to_pylist()
    return np.stack([_image(parquet_images.content(value), shape, path) for value in values])


def _image(content: bytes | None, shape: tuple[int, int], path: Path) -> Pixels:
    """An image from its pixels, or from an image file of the size `shape`."""
    if not content:
        raise UnreadableImageError(path, "the bytes of each image", "a row without")
    if len(content) == math.prod(shape) and not content.startswith(_IMAGE_FILES):
        return np.frombuffer(content, np.uint8).reshape(shape)
    try:
        pixels = image_codec.decode(BytesIO(content)).pixels
    except ImageFileError as error:
        expected = f"{math.prod(shape)} bytes per image, or image files of {shape[0]}x{shape[1]}"
        raise UnreadableImageError(path, expected, f"{len(content)} bytes that are neither") from error
    if pixels.shape != shape:
        raise UnreadableImageError(path, f"images of {shape[0]}x{shape[1]}", f"one of {pixels.shape[0]}x{pixels.shape[1]}")
    return pixels
