"""Naming the formats that are not read."""

from io import BytesIO

import pytest

from pipeline.data import image_codec
from pipeline.data.errors import ImageFileError

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
APPLE = b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(40)
VIDEO = b"\0\0\0\x18ftypisom\0\0\0\0isomavc1" + bytes(40)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (HEIC, "a HEIC picture, as phones take them: convert it to PNG or JPEG"),
        (APPLE, "a HEIC picture, as phones take them: convert it to PNG or JPEG"),
        (HEIC.replace(b"heic", b"avif"), "a damaged AVIF picture, or one that this Pillow cannot read: convert it"),
        (VIDEO, "a video: save one picture of it as PNG or JPEG"),
        (b"%PDF-1.7\n", "a PDF document: export its page as PNG"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing: export it as PNG"),
        (b"<svg></svg>", "an SVG drawing: export it as PNG"),
        (b"<!DOCTYPE html><html>", "a web page, not the picture on it"),
        (b"\xff\x0a" + bytes(20), "a JPEG XL picture: convert it to PNG or JPEG"),
        (b"PK\x03\x04" + bytes(20), "a zip archive: unpack it"),
        (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS: run `git lfs pull`"),
        (b"something else", "a damaged file or another format"),
    ],
)
def test_a_format_that_is_not_read_is_named_with_the_remedy(content: bytes, found: str) -> None:
    with pytest.raises(ImageFileError, match="expected an image file, found ") as caught:
        image_codec.decode(BytesIO(content))

    assert found in str(caught.value)
