"""Preprocessing of photographs and drawings."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data import image_codec
from pipeline.data.datasets import Pixels, Split
from pipeline.serving import image_files
from pipeline.serving.errors import UnreadableImageError

SHAPE = (28, 28)


def save_image(pixels: Pixels, path: Path) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def test_an_image_in_the_format_of_the_training_data_stays_unchanged(subset: dict[str, Split], tmp_path: Path) -> None:
    image = np.array(subset["test"].images[0])

    read = image_files.read(save_image(image, tmp_path / "a.png"), SHAPE)

    np.testing.assert_array_equal(read.pixels[0], image)
    assert read.changes == ()


def test_dark_ink_on_white_is_inverted_and_reported(subset: dict[str, Split], tmp_path: Path) -> None:
    image = np.array(subset["test"].images[0])

    read = image_files.read(save_image(255 - image, tmp_path / "a.png"), SHAPE)

    np.testing.assert_array_equal(read.pixels[0], image)
    assert read.changes == ("inverted: dark ink on a light background",)


@pytest.mark.parametrize("shape", [(28, 28), (40, 32), (14, 14)])
def test_an_image_of_another_size_is_scaled_to_the_box_and_centred_by_mass(shape: tuple[int, int], tmp_path: Path) -> None:
    page = np.full((300, 500), 255, np.uint8)
    page[30:130, 400:440] = 10

    read = image_files.read(save_image(page, tmp_path / "a.png"), shape)

    rows, columns = np.nonzero(read.pixels[0] > 127)
    assert read.pixels.shape == (1, *shape)
    assert rows.max() - rows.min() + 1 == pytest.approx(min(shape[0] * 20 / 28, shape[1] * 20 / 28 * 2.5), abs=1.01)
    assert rows.mean() == pytest.approx(shape[0] / 2, abs=1)
    assert columns.mean() == pytest.approx(shape[1] / 2, abs=1)
    assert read.pixels.max() == 255
    assert read.changes[1].startswith(f"resized from 500x300 to {shape[1]}x{shape[0]}")


def test_transparent_pixels_count_as_background(tmp_path: Path) -> None:
    drawn = np.zeros((60, 60, 4), np.uint8)
    drawn[10:50, 25:35] = [0, 0, 0, 255]

    read = image_files.read(save_image(drawn, tmp_path / "a.png"), SHAPE)

    assert read.pixels[0, 14, 14] == 255
    assert read.pixels[0, 0, 0] == 0


def test_a_colour_jpeg_is_read(subset: dict[str, Split], tmp_path: Path) -> None:
    large = np.repeat(np.repeat(subset["test"].images[0], 8, axis=0), 8, axis=1)

    read = image_files.read(save_image(np.stack([255 - large] * 3, axis=2), tmp_path / "a.jpg"), SHAPE)

    assert np.corrcoef(read.pixels.ravel(), subset["test"].images[0].ravel())[0, 1] > 0.9


@pytest.mark.parametrize("kind", image_codec.FORMATS)
def test_each_supported_format_is_read(kind: str, tmp_path: Path) -> None:
    pixels = np.zeros((60, 60), np.uint8)
    pixels[10:50, 25:35] = 255
    Image.fromarray(pixels).save(tmp_path / "image", kind)

    assert image_files.read(tmp_path / "image", SHAPE).pixels[0, 14, 14] > 250


def test_a_format_that_pillow_opens_with_another_program_is_refused(tmp_path: Path) -> None:
    Image.new("L", (60, 60)).save(tmp_path / "a.eps")

    with pytest.raises(UnreadableImageError, match="expected an image file, found a damaged file or another format"):
        image_files.read(tmp_path / "a.eps", SHAPE)


def test_a_tiff_with_text_as_its_width_is_refused(tmp_path: Path) -> None:
    Image.new("L", (60, 60)).save(tmp_path / "a.tiff")
    width, text = struct.pack("<HHL", 256, 4, 1), struct.pack("<HHL", 256, 2, 1)
    content = (tmp_path / "a.tiff").read_bytes()
    (tmp_path / "a.tiff").write_bytes(content.replace(width, text))

    assert content.count(width) == 1
    with pytest.raises(UnreadableImageError, match="expected an image file, found a damaged file"):
        image_files.read(tmp_path / "a.tiff", SHAPE)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "expected an image file, found a damaged file"),
        (b"not an image", "expected an image file, found a damaged file"),
        (None, "expected a file, found No such file"),
    ],
)
def test_an_unreadable_image_is_refused_by_name(content: bytes | None, expected: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)

    with pytest.raises(UnreadableImageError, match=expected) as caught:
        image_files.read(tmp_path / "a.png", SHAPE)

    assert "a.png" in str(caught.value)


def test_a_truncated_image_is_refused(tmp_path: Path) -> None:
    path = save_image(np.random.default_rng(0).integers(0, 255, (200, 200), dtype=np.uint8), tmp_path / "a.png")
    path.write_bytes(path.read_bytes()[:5000])

    with pytest.raises(UnreadableImageError, match="found a damaged file"):
        image_files.read(path, SHAPE)


def test_a_blank_image_is_refused(tmp_path: Path) -> None:
    path = save_image(np.full((100, 100), 250, np.uint8), tmp_path / "a.png")

    with pytest.raises(UnreadableImageError, match="expected ink that differs from the background, found one shade"):
        image_files.read(path, SHAPE)


def test_an_image_that_is_too_large_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (30_000, 30_000)).save(tmp_path / "a.png")

    with pytest.raises(UnreadableImageError, match=r"expected at most 100,000,000 pixels, found 30000x30000|damaged"):
        image_files.read(tmp_path / "a.png", SHAPE)
