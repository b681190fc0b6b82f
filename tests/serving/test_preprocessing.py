"""Preprocessing of photographs and drawings."""

import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.grounds import GROUNDS, picture
from pipeline.data import image_codec
from pipeline.data.datasets import Pixels, Split
from pipeline.serving import image_files, preprocessing
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

    with pytest.raises(UnreadableImageError, match="expected an image file, found a PostScript file"):
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

    with pytest.raises(UnreadableImageError, match=r"expected at most 120,000,000 pixels, found 30000x30000|damaged"):
        image_files.read(tmp_path / "a.png", SHAPE)


@pytest.mark.parametrize("ground", GROUNDS)
def test_a_digit_is_found_on_any_ground(ground: str, subset: dict[str, Split]) -> None:
    rng = np.random.default_rng(0)

    for digit in subset["test"].images[:4]:
        found = preprocessing.conform(np.asarray(picture(digit, GROUNDS[ground], rng).convert("L")), SHAPE)

        assert np.corrcoef(found.pixels.ravel(), digit.ravel())[0, 1] > 0.75


@pytest.mark.parametrize(("ground", "ink"), [(240, 20), (170, 20), (60, 230), (30, 250)])
def test_an_image_of_the_models_size_on_grey_is_not_taken_as_it_is(ground: int, ink: int, subset: dict[str, Split]) -> None:
    digit = subset["test"].images[1]
    cover = digit / 255

    found = preprocessing.conform((ground * (1 - cover) + ink * cover).round().astype(np.uint8), SHAPE)

    assert np.abs(found.pixels[0].astype(int) - digit).mean() < 8
    assert found.changes != ()


@pytest.mark.parametrize("spoil", ["speck", "edge", "specks"])
def test_the_digit_is_what_is_connected_and_large(spoil: str, subset: dict[str, Split]) -> None:
    page = np.full((1000, 1000), 255, np.uint8)
    digit = subset["test"].images[0]
    page[300:580, 350:630] -= digit.repeat(10, axis=0).repeat(10, axis=1)
    if spoil == "edge":
        page[:, :3] = 20
    else:
        for row in range(20, 40 if spoil == "speck" else 1000, 40):
            page[row : row + 3, 970 : 970 + 3] = 110

    found = preprocessing.read(png(page), SHAPE)

    assert np.corrcoef(found.pixels.ravel(), digit.ravel())[0, 1] > 0.85


def test_more_than_one_digit_is_said(subset: dict[str, Split]) -> None:
    pair = np.hstack([255 - subset["test"].images[0]] * 2).repeat(6, axis=0).repeat(6, axis=1)

    found = preprocessing.conform(pair, SHAPE)

    assert "warning: 1 more shapes of similar size; only the largest was predicted" in found.changes[-1]


def png(pixels: Any, **options: Any) -> BytesIO:
    return encoded(Image.fromarray(pixels), "PNG", **options)


def encoded(image: Image.Image, kind: str, **options: Any) -> BytesIO:
    out = BytesIO()
    image.save(out, kind, **options)
    out.seek(0)
    return out


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("large", [False, True])
def test_a_picture_is_turned_upright(kind: str, large: bool, subset: dict[str, Split]) -> None:
    turned_left = Image.Exif()
    turned_left[0x0112] = 6
    seven = 255 - subset["test"].images[0].repeat(8, axis=0).repeat(8, axis=1)
    page = np.pad(seven, 400 if large else 20, constant_values=255)
    image = Image.fromarray(np.rot90(page).copy()).convert("RGB")

    found = preprocessing.read(encoded(image, kind, exif=turned_left), SHAPE)

    assert np.corrcoef(found.pixels.ravel(), subset["test"].images[0].ravel())[0, 1] > 0.85


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("PNG", lambda cover: (65535 * (1 - cover)).astype(np.uint16)),
        ("PNG", lambda cover: (60400 - 20400 * cover).astype(np.uint16)),
        ("TIFF", lambda cover: (4095 * (1 - cover)).astype(np.uint16)),
        ("TIFF", lambda cover: (1 - cover).astype(np.float32)),
        ("TIFF", lambda cover: np.where(np.arange(cover.shape[1]) == 3, np.nan, -3 + 0.001 * cover).astype(np.float32)),
        ("TIFF", lambda cover: (100_000 * cover).astype(np.int32)),
    ],
)
def test_a_deep_image_is_read_in_its_own_range(kind: str, values: Any, large: bool, subset: dict[str, Split]) -> None:
    cover = np.pad(subset["test"].images[0] / 255, 20).repeat(10 if large else 4, axis=0).repeat(10 if large else 4, axis=1)

    found = preprocessing.read(encoded(Image.fromarray(values(cover)), kind), SHAPE)

    assert np.corrcoef(found.pixels.ravel(), subset["test"].images[0].ravel())[0, 1] > 0.8


@pytest.mark.parametrize("side", [60, 900])
def test_white_ink_on_transparent_is_seen(side: int) -> None:
    drawn = np.full((side, side, 4), [255, 255, 255, 0], np.uint8)
    drawn[side // 6 : -side // 6, side * 2 // 5 : side * 3 // 5, 3] = 255

    found = preprocessing.read(png(drawn), SHAPE)

    assert (found.pixels[0, 14, 14] > 240, found.pixels[0, 0, 0]) == (True, 0)


def test_more_frames_are_said_or_read() -> None:
    frames = [Image.fromarray(np.full((60, 60), 255, np.uint8)) for _ in range(3)]
    for number, frame in enumerate(frames):
        frame.paste(0, (20, 10, 25 + 5 * number, 50))
    file = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])

    first, every = preprocessing.read(file, SHAPE), preprocessing.read(file, SHAPE, all_frames=True)

    assert "warning: the first of 3 frames or pages; --all-frames reads them all" in first.changes
    assert every.pixels.shape == (3, *SHAPE)
    np.testing.assert_array_equal(every.pixels[0], first.pixels[0])
    assert (every.pixels[2] > 0).sum() > (every.pixels[0] > 0).sum()


def test_a_model_of_other_images_gets_them_as_they_are() -> None:
    photo = np.random.default_rng(0).integers(50, 200, (56, 28)).astype(np.uint8)

    scaled, same = preprocessing.conform(photo, SHAPE, "as_is"), preprocessing.conform(photo, (56, 28), "as_is")

    assert scaled.pixels.shape == (1, *SHAPE)
    assert scaled.pixels.min() > 50
    np.testing.assert_array_equal(same.pixels[0], photo)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_phones_largest_picture_is_read_within_the_memory_of_its_decoder(kind: str) -> None:
    page = Image.new("L", (12_000, 9_000), 230)
    page.paste(20, (5_000, 2_000, 6_500, 7_000))
    file = encoded(page, kind)
    del page

    found = preprocessing.read(file, SHAPE)

    assert (found.pixels[0, 14, 14] > 240, found.pixels[0, 0, 0]) == (True, 0)
