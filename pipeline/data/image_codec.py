"""Decode an image file (PNG, JPEG, BMP, GIF, PPM, TIFF or WebP) to grey pixels: for data sets and for `predict` alike."""

import warnings
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from pipeline.data.errors import ImageFileError
from pipeline.data.idx import Pixels

# Not every format of Pillow: it passes EPS to Ghostscript, another program, and the others are rare.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MOST_PIXELS = 100_000_000
_DEEP = ("I", "F")  # and I;16, I;16B ...: more than 8 bits per pixel
_RANGES = ((1.0, 255.0), (255.0, 1.0), (65535.0, 1 / 257))  # (largest value, factor to 0 to 255)


class Decoded(NamedTuple):
    """Grey pixels `(height, width)` uint8, upright, and the number of frames or pages in the file (the first is decoded)."""

    pixels: Pixels
    frames: int


def decode(file: Path | BinaryIO, own_range: bool = False) -> Decoded:
    """Decode the first frame: turned upright by its EXIF orientation, colour as luma, transparency on a plain ground.

    Args:
        own_range: stretch an image of more than 8 bits from its own darkest to its brightest value.

    Raises:
        ImageFileError: it is no image of `FORMATS`, is damaged, has more than `MOST_PIXELS`, or values without a known range.
        OSError: the file cannot be read.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ImageFileError(f"at most {MOST_PIXELS:,} pixels", f"{image.width}x{image.height}")
            return Decoded(_grey(ImageOps.exif_transpose(image), own_range), getattr(image, "n_frames", 1))
    except (ImageFileError, FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except Exception as error:  # Pillow parses in Python, so a damaged file can raise almost any exception
        raise ImageFileError("an image file", "a damaged file or another format") from error


def _grey(image: Image.Image, own_range: bool) -> Pixels:
    if image.mode.startswith(_DEEP):
        return _to_bytes(np.asarray(image, dtype=np.float64), image.mode, own_range)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = _on_ground(image.convert("RGBA"))
    return np.asarray(image.convert("L"))


def _to_bytes(values: npt.NDArray[np.float64], mode: str, own_range: bool) -> Pixels:
    low, high = float(values.min()), float(values.max())
    if own_range and np.isfinite([low, high]).all():
        factor = 255 / (high - low) if high > low else 0.0
        return np.asarray(((values - low) * factor).round(), np.uint8)
    ranges = _RANGES if mode == "F" else _RANGES[-1:]
    factor = next((factor for most, factor in ranges if low >= 0 and high <= most), 0.0)
    if not factor:
        raise ImageFileError("pixel values of 0 to 65,535, or fractions of 0 to 1", f"{low:g} to {high:g}")
    return np.asarray((values * factor).round(), np.uint8)


def _on_ground(image: Image.Image) -> Image.Image:
    """Show what is transparent as white paper, or as black if the visible ink is light: it would vanish on white."""
    alpha = image.getchannel("A")
    luma, weights = np.asarray(image.convert("L"), np.float64), np.asarray(alpha, np.float64)
    light = weights.min() < 255 and (luma * weights).sum() > 127.5 * weights.sum()
    ground = Image.new("RGBA", image.size, "black" if light else "white")
    ground.alpha_composite(image)
    return ground
