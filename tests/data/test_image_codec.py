"""Decoding image files: every format, depth and colour model gives the grey image that a viewer shows."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.data import image_codec
from pipeline.data.datasets import Pixels
from pipeline.data.errors import ImageFileError

RAMP = np.tile(np.arange(0, 240, 16, dtype=np.uint8), (10, 1))
TRANSPOSE_CLOCKWISE = 6  # the EXIF orientation of a photo taken with the camera turned to the left


def encoded(image: Image.Image, kind: str, **options: Any) -> BytesIO:
    out = BytesIO()
    image.save(out, kind, **options)
    out.seek(0)
    return out


def grey(array: Any) -> Image.Image:
    return Image.fromarray(array)


def alpha(ink: int, shape: tuple[int, int] = (4, 4)) -> Image.Image:
    """Ink of one shade in the first row, the rest transparent."""
    pixels = np.zeros((*shape, 4), np.uint8)
    pixels[0] = (ink, ink, ink, 255)
    return Image.fromarray(pixels, "RGBA")


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        *((encoded(grey(RAMP), kind), RAMP) for kind in ("PNG", "BMP", "TIFF", "PPM", "GIF")),
        (encoded(grey(RAMP), "WEBP", lossless=True), RAMP),
        (encoded(grey(RAMP).convert("RGB"), "PNG"), RAMP),
        (encoded(grey(RAMP).convert("P"), "PNG"), RAMP),
        (encoded(grey(RAMP > 100), "PNG"), (RAMP > 100) * np.uint8(255)),
        (encoded(grey(RAMP.astype(np.uint16) * 257), "PNG"), RAMP),
        (encoded(grey(RAMP.astype(np.float32) / 255), "TIFF"), RAMP),
        (encoded(grey(RAMP.astype(np.float32)), "TIFF"), RAMP),
        (encoded(grey(RAMP), "TIFF", exif=Image.Exif()), RAMP),
        (encoded(alpha(0), "PNG"), np.repeat(np.uint8([[0], [255], [255], [255]]), 4, axis=1)),
        (encoded(alpha(255), "PNG"), np.repeat(np.uint8([[255], [0], [0], [0]]), 4, axis=1)),
    ],
)
def test_an_image_is_read_as_a_viewer_shows_it(file: BytesIO, expected: Pixels) -> None:
    np.testing.assert_array_equal(image_codec.decode(file).pixels, expected)


@pytest.mark.parametrize(("mode", "kind"), [("L", "JPEG"), ("CMYK", "JPEG"), ("CMYK", "TIFF"), ("YCbCr", "JPEG")])
def test_lossy_files_and_other_colour_models_come_close(mode: str, kind: str) -> None:
    found = image_codec.decode(encoded(grey(RAMP).convert("RGB").convert(mode), kind)).pixels

    assert np.abs(found.astype(int) - RAMP).max() <= 6


def test_an_image_is_turned_upright() -> None:
    orientation = Image.Exif()
    orientation[0x0112] = TRANSPOSE_CLOCKWISE

    found = image_codec.decode(encoded(grey(RAMP), "PNG", exif=orientation)).pixels

    np.testing.assert_array_equal(found, np.rot90(RAMP, -1))


def test_the_first_frame_is_read_and_the_others_are_counted() -> None:
    frames = [grey(RAMP), grey(255 - RAMP)]

    found = image_codec.decode(encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:]))

    assert found.frames == 2
    np.testing.assert_array_equal(found.pixels, RAMP)


def test_a_deep_image_can_be_stretched_from_its_own_range() -> None:
    narrow = 40_000 + RAMP.astype(np.uint16) * 10

    found = image_codec.decode(encoded(grey(narrow), "PNG"), own_range=True).pixels

    assert (found.min(), found.max()) == (0, 255)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected an image file, found a damaged file or another format"),
        (b"hello, I am text", "expected an image file, found a damaged file or another format"),
        (encoded(grey(np.zeros((40, 40), np.uint8)), "JPEG").getvalue()[:-60], "expected an image file, found a damaged"),
        (encoded(grey(np.float32([[-1, 300]])), "TIFF").getvalue(), "expected pixel values of 0 to 65,535, or fractions"),
    ],
)
def test_what_is_no_image_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ImageFileError, match=message):
        image_codec.decode(BytesIO(content))


def test_an_image_beyond_the_limit_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_codec, "MOST_PIXELS", 100)

    with pytest.raises(ImageFileError, match="expected at most 100 pixels, found 15x10"):
        image_codec.decode(encoded(grey(RAMP), "PNG"))
