"""Decode an image file (PNG, JPEG, BMP, GIF, PPM, TIFF, WebP, AVIF) to grey pixels: for data sets and for `predict` alike."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, features

from pipeline.data import image_kinds
from pipeline.data.errors import ImageFileError
from pipeline.data.idx import Pixels

# Not every format of Pillow: it passes EPS to Ghostscript, another program, and the others are rare.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP", *(["AVIF"] if features.check("avif") else []))
MOST_PIXELS = 120_000_000  # a phone's 108 megapixels; beyond, a small file could be meant to exhaust the memory
MOST_FRAMES = 1000
_STRIP = 64  # rows of a reduced image that are computed at a time
_DEEP = ("I", "F")  # and I;16, I;16B ...: more than 8 bits per pixel
_RANGES = ((1.0, 255.0), (255.0, 1.0), (65535.0, 1 / 257))  # (largest value, factor to 0 to 255)
_OUTLIERS = (0.0001, 0.9999)  # a few hot or dead pixels do not stretch an image's own range


class Decoded(NamedTuple):
    """Grey pixels `(height, width)` uint8, upright, and the number of frames or pages in the file (the first is decoded)."""

    pixels: Pixels
    frames: int = 1
    width: int = 0  # before it was reduced
    height: int = 0


def decode(file: Path | BinaryIO, own_range: bool = False, side: int | None = None) -> Decoded:
    """Decode the first frame: turned upright by its EXIF orientation, colour as luma, transparency on a plain ground.

    Args:
        file: the path of a file, or its content.
        own_range: stretch an image of more than 8 bits from its own darkest to its brightest value.
        side: reduce an image whose width or height is larger, by a whole factor. The memory is then little more than what the
            format's decoder needs: 4 bytes a pixel, or a fraction of them for JPEG.

    Raises:
        ImageFileError: it is no image of `FORMATS`, is damaged, has more than `MOST_PIXELS`, or values without a known range.
        OSError: the file cannot be read.
    """
    with _opened(file) as image:
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # MPO: a JPEG with a preview, as phones save
        return _frame(image, own_range, side)._replace(frames=frames)


def decode_all(file: Path | BinaryIO, own_range: bool = False, side: int | None = None) -> list[Decoded]:
    """Like `decode`, for every frame of an animation and every page of a TIFF file, at most `MOST_FRAMES`."""
    with _opened(file) as image:
        count = getattr(image, "n_frames", 1)
        if count > MOST_FRAMES:
            raise ImageFileError(f"at most {MOST_FRAMES:,} frames", f"{count:,}")
        frames = []
        for number in range(count):
            image.seek(number)
            _check_size(image)
            frames.append(_frame(image.copy() if count > 1 else image, own_range, side))
        return frames


@contextmanager
def _opened(file: Path | BinaryIO) -> Iterator[Any]:
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file, formats=FORMATS) as image:
            _check_size(image)
            yield image
    except (ImageFileError, FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except Exception as error:  # Pillow parses in Python, so a damaged file can raise almost any exception
        found = image_kinds.describe(_start(file)) or "a damaged file or another format"
        raise ImageFileError("an image file", found) from error


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > MOST_PIXELS:
        raise ImageFileError(f"at most {MOST_PIXELS:,} pixels", f"{image.width}x{image.height}")


def _start(file: Path | BinaryIO) -> bytes:
    if isinstance(file, Path):
        with file.open("rb") as stream:
            return stream.read(1024)
    file.seek(0)
    return file.read(1024)


def _frame(image: Image.Image, own_range: bool, side: int | None) -> Decoded:
    size, factor = image.size, 1
    if side and max(size) > side:
        image.draft(None, (2 * side, 2 * side))  # of use for JPEG, which can be decoded at a half, a quarter or an eighth
        factor = -(-max(image.size) // side)
    image.load()
    upright = _upright(image)
    width, height = size if (size[0] > size[1]) == (upright.width > upright.height) else size[::-1]
    return Decoded(_grey(_reduced(upright, factor) if factor > 1 else upright, own_range), 1, width, height)


def _upright(image: Image.Image) -> Image.Image:
    """Turn the image as its EXIF data say. Viewers ignore damaged EXIF data, and so does this."""
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:
        return image
    return image


def _reduced(image: Image.Image, factor: int) -> Image.Image:
    """Reduce the image to the means of squares. In strips, because a copy in another mode needs several times its memory."""
    rows, strips = factor * _STRIP, []
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        if strip.mode in ("P", "PA", "1") or "transparency" in image.info:
            strip.info = image.info
            strip = strip.convert("RGBA" if "transparency" in image.info or strip.mode == "PA" else "RGB")
        strips.append((strip.convert("I") if strip.mode.startswith("I") else strip).reduce(factor))
    reduced = Image.new(strips[0].mode, (strips[0].width, sum(strip.height for strip in strips)))
    for number, strip in enumerate(strips):
        reduced.paste(strip, (0, number * _STRIP))
    return reduced


def _grey(image: Image.Image, own_range: bool) -> Pixels:
    if image.mode.startswith(_DEEP):
        return _to_bytes(np.asarray(image, dtype=np.float64), image.mode, own_range)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = _on_ground(image.convert("RGBA"))
    return np.asarray(image.convert("L"))


def _to_bytes(values: npt.NDArray[np.float64], mode: str, own_range: bool) -> Pixels:
    finite = np.isfinite(values)
    if own_range and finite.any():
        low, high = np.quantile(values[finite], _OUTLIERS)
        known = np.where(np.isnan(values), np.median(values[finite]), values)
        factor = 255 / (high - low) if high > low else 0.0
        return np.asarray(((np.clip(known, low, high) - low) * factor).round(), np.uint8)
    low, high = float(values.min()), float(values.max())
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


def fit(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Scale an image in proportion into `size` (height, width), and pad it with the median of its border."""
    factor = min(size[0] / pixels.shape[0], size[1] / pixels.shape[1])
    height, width = (min(most, max(1, round(side * factor))) for side, most in zip(pixels.shape, size, strict=True))
    scaled = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
    fitted = np.full(size, np.uint8(border_median(pixels)))
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    fitted[top : top + height, left : left + width] = scaled
    return fitted


def border_median(pixels: npt.NDArray[Any]) -> float:
    """The median of the border of an image `(height, width)`: that of its ground."""
    return float(np.median(np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])))
