"""Bring photographs and drawings to the convention of the images that the model was trained on.

The convention is MNIST's: light ink on a black background, the ink's bounding box scaled in proportion to 20x20 of the 28x28
pixels, its centre of mass in the middle (LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document
Recognition", Proceedings of the IEEE 86, 1998, section III.A). Images of other sizes keep the ratio of 20/28.
"""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from pipeline.data.datasets import Pixels
from pipeline.serving.errors import UnreadableImageError

_BOX = 20 / 28  # the ink's box, as a share of the image's height and width
_INK = 0.1  # pixels below this share of the brightest are background, for example a camera's noise
_MOST_PIXELS = 50_000_000
_MIN_CONTRAST = 16  # between the darkest and the brightest pixel
# Not every format of Pillow: it passes EPS to Ghostscript, another program, and the others are rare.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


class Preprocessed(NamedTuple):
    """An image `(height, width)` uint8 that follows the convention, and the changes that this took."""

    pixels: Pixels
    changes: tuple[str, ...]


def read(path: Path, shape: tuple[int, int]) -> Preprocessed:
    """Read a PNG, JPEG, BMP, GIF, PPM, TIFF or WebP file and bring it to `shape` (height, width).

    An image of this shape with light ink on black stays as it is.

    Raises:
        UnreadableImageError: the file is no image, is damaged, has more than 50 million pixels, or is blank.
    """
    return conform(_grey(path), shape, path)


def _grey(path: Path) -> Pixels:
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise UnreadableImageError(path, f"at most {_MOST_PIXELS:,} pixels", f"{image.width}x{image.height}")
            flat = Image.new("RGBA", image.size, "white")  # show transparent pixels as white paper
            flat.alpha_composite(image.convert("RGBA"))
            transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
            return np.asarray((flat if transparent else image).convert("L"))
    except UnreadableImageError:
        raise
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise UnreadableImageError(path, "a file", error.strerror or "none") from error
    except Exception as error:  # Pillow parses in Python, so a damaged file can raise almost any exception
        raise UnreadableImageError(path, "an image file", "a damaged file or another format") from error


def conform(grey: Pixels, shape: tuple[int, int], path: Path) -> Preprocessed:
    """Bring a grey image `(h, w)` uint8 of any size to the convention. `path` names it in errors.

    Raises:
        UnreadableImageError: the image is blank.
    """
    changes: list[str] = []
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    if np.median(border) > 127:
        grey = 255 - grey
        changes.append("inverted: dark ink on a light background")
    if grey.shape == shape:
        return Preprocessed(grey, tuple(changes))
    ink = grey > _INK * max(int(grey.max()), 1)
    if int(grey.max()) - int(grey.min()) < _MIN_CONTRAST or not ink.any():
        raise UnreadableImageError(path, "ink that differs from the background", "one shade")
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    box = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    changes.append(f"resized from {grey.shape[1]}x{grey.shape[0]} to {shape[1]}x{shape[0]}, centred by mass")
    return Preprocessed(_centred(_scaled(box, shape), shape), tuple(changes))


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
