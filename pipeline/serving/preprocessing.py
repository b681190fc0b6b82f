"""Pictures as people have them, brought to the convention of the images that the model was trained on.

MNIST's own: ink is light on a black ground, the ink's box is scaled to 20x20 of the 28x28 pixels in proportion, and
its centre of mass is put in the middle (LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document
Recognition", Proceedings of the IEEE 86, 1998, section III.A). Other sizes keep the same share of the image, 20/28.
"""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from pipeline.data.datasets import Pixels
from pipeline.serving.errors import UnreadableImageError

_BOX = 20 / 28  # share of the image's height and width that the ink fills
_INK = 0.1  # of the brightest pixel: what is darker is ground, such as the noise of a camera
_MOST_PIXELS = 50_000_000
# Not all that Pillow knows: it hands EPS to Ghostscript, a program of its own, and few people have the others.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


class Picture(NamedTuple):
    """An image `(height, width)` uint8 as the model takes it, and what was done to get it."""

    image: Pixels
    changes: tuple[str, ...]


def read(path: Path, shape: tuple[int, int]) -> Picture:
    """Read a PNG, JPEG, BMP, GIF, PPM, TIFF or WebP picture, and bring it to `shape` (height, width).

    A picture that has this size and light ink on a black ground already is left as it is.

    Raises:
        UnreadableImageError: it is no picture, is damaged, has more than 50 million pixels, or shows nothing.
    """
    return conform(_grey(path), shape, path)


def _grey(path: Path) -> Pixels:
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=_FORMATS) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                raise UnreadableImageError(path, f"at most {_MOST_PIXELS:,} pixels", f"{picture.width}x{picture.height}")
            flat = Image.new("RGBA", picture.size, "white")  # what is transparent is seen as paper
            flat.alpha_composite(picture.convert("RGBA"))
            transparent = picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
            return np.asarray((flat if transparent else picture).convert("L"))
    except UnreadableImageError:
        raise
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise UnreadableImageError(path, "a file", error.strerror or "none") from error
    except Exception as error:  # Pillow reads in Python, so a damaged file fails in as many ways as Python has
        raise UnreadableImageError(path, "a picture", "one that is damaged, or none") from error


def conform(grey: Pixels, shape: tuple[int, int], path: Path) -> Picture:
    """Bring a grey picture `(h, w)` uint8 of any size to the convention; `path` names it where it shows nothing."""
    changes: list[str] = []
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    if np.median(edge) > 127:
        grey = 255 - grey
        changes.append("inverted: dark ink on a light ground")
    if grey.shape == shape:
        return Picture(grey, tuple(changes))
    ink = grey > _INK * max(int(grey.max()), 1)
    if int(grey.max()) - int(grey.min()) < 16 or not ink.any():
        raise UnreadableImageError(path, "ink that differs from the ground", "one shade")
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    box = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    changes.append(f"brought from {grey.shape[1]}x{grey.shape[0]} to {shape[1]}x{shape[0]}, centred by mass")
    return Picture(_centred(_scaled(box, shape), shape), tuple(changes))


def _scaled(box: Pixels, shape: tuple[int, int]) -> Pixels:
    """The ink's box as large as it may be, with its proportions and its full brightness."""
    factor = min(_BOX * shape[0] / box.shape[0], _BOX * shape[1] / box.shape[1])
    size = (max(1, round(box.shape[1] * factor)), max(1, round(box.shape[0] * factor)))
    small = np.asarray(Image.fromarray(box).resize(size, Image.Resampling.LANCZOS), dtype=np.float64)
    return np.asarray(np.clip(small * (255 / max(small.max(), 1)), 0, 255).round(), dtype=np.uint8)


def _centred(small: Pixels, shape: tuple[int, int]) -> Pixels:
    """`small` on a black ground of `shape`, its centre of mass in the middle as nearly as whole pixels allow.

    The middle is pixel 14 of 28, counted from 0: that is where the centres of mass of MNIST's images lie.
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
