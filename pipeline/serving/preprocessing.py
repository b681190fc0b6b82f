"""Bring photographs and drawings to the convention of the images that the model was trained on.

The convention is MNIST's: light ink on a black background, the ink's bounding box scaled in proportion to 20x20 of the 28x28
pixels, its centre of mass in the middle (LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document
Recognition", Proceedings of the IEEE 86, 1998, section III.A). Images of other sizes keep the ratio of 20/28.
"""

from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from pipeline.data import image_codec
from pipeline.data.errors import ImageFileError
from pipeline.data.idx import Pixels

_BOX = 20 / 28  # the ink's box, as a share of the image's height and width
_INK = 0.1  # pixels below this share of the brightest are background, for example a camera's noise
_MIN_CONTRAST = 16  # between the darkest and the brightest pixel


class Images(NamedTuple):
    """The images of a file, `(n, height, width)` uint8, and the changes that preprocessing made to them."""

    pixels: Pixels
    changes: tuple[str, ...] = ()


def from_bytes(content: bytes, shape: tuple[int, int]) -> Images:
    """Decode a PNG, JPEG, BMP, GIF, PPM, TIFF or WebP file that is in memory and bring it to `shape` (height, width).

    Raises:
        ImageFileError: the bytes are no image, are damaged, have too many pixels, or show nothing.
    """
    return read(BytesIO(content), shape)


def read(file: Path | BinaryIO, shape: tuple[int, int]) -> Images:
    """Like `from_bytes`, for a file on disk. Raises OSError if it cannot be read."""
    return conform(image_codec.decode(file, own_range=True).pixels, shape)


def conform(grey: Pixels, shape: tuple[int, int]) -> Images:
    """Bring a grey image `(h, w)` uint8 of any size to the convention: one image `(1, height, width)`.

    An image of this shape with light ink on black stays as it is.

    Raises:
        ImageFileError: the image is blank.
    """
    changes: list[str] = []
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    if np.median(border) > 127:
        grey = 255 - grey
        changes.append("inverted: dark ink on a light background")
    if grey.shape == shape:
        return Images(grey[None], tuple(changes))
    ink = grey > _INK * max(int(grey.max()), 1)
    if int(grey.max()) - int(grey.min()) < _MIN_CONTRAST or not ink.any():
        raise ImageFileError("ink that differs from the background", "one shade")
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    box = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    changes.append(f"resized from {grey.shape[1]}x{grey.shape[0]} to {shape[1]}x{shape[0]}, centred by mass")
    return Images(_centred(_scaled(box, shape), shape)[None], tuple(changes))


def _scaled(box: Pixels, shape: tuple[int, int]) -> Pixels:
    """Scale the ink's box in proportion to its share of `shape`, with the brightest pixel at 255."""
    factor = min(_BOX * shape[0] / box.shape[0], _BOX * shape[1] / box.shape[1])
    size = (max(1, round(box.shape[1] * factor)), max(1, round(box.shape[0] * factor)))
    small = np.asarray(Image.fromarray(box).resize(size, Image.Resampling.LANCZOS), dtype=np.float64)
    return np.asarray(np.clip(small * (255 / max(small.max(), 1)), 0, 255).round(), dtype=np.uint8)


def _centred(small: Pixels, shape: tuple[int, int]) -> Pixels:
    """Place `small` on a black background of `shape`, its centre of mass in the middle to the nearest pixel.

    The middle is pixel 14 of 28, counted from 0, as in MNIST's own images.
    """
    image = np.zeros(shape, np.uint8)
    corner = []
    for axis in (0, 1):
        profile = small.sum(axis=1 - axis, dtype=np.float64)
        mass = float(profile @ np.arange(small.shape[axis]) / profile.sum())
        corner.append(int(np.clip(round(shape[axis] / 2 - mass), 0, shape[axis] - small.shape[axis])))
    top, left = corner
    image[top : top + small.shape[0], left : left + small.shape[1]] = small
    return image
