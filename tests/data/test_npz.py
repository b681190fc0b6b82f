import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data import npz
from pipeline.data.errors import IdxError
from pipeline.data.idx import Hashed, Pixels

IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
LABELS = np.array([1, 0], np.uint8)


def saved(compressed: bool = False, **arrays: object) -> bytes:
    """An npz file of `arrays`; images and labels default to those above."""
    stream = io.BytesIO()
    save = np.savez_compressed if compressed else np.savez
    save(stream, **({"images": IMAGES, "labels": LABELS} | arrays))  # type: ignore[arg-type]
    return stream.getvalue()


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def npy(array: Pixels) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def decode(content: bytes, folder: Path, max_bytes: int = 1000) -> dict[str, Hashed]:
    targets = {"images": (3, folder / "images.npy"), "labels": (1, folder / "labels.npy")}
    return npz.decode(io.BytesIO(content), targets, max_bytes)


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_are_decoded_as_numpy_saved_them(compressed: bool, tmp_path: Path) -> None:
    decoded = decode(saved(compressed, more=np.zeros(3)), tmp_path)

    np.testing.assert_array_equal(np.load(tmp_path / "images.npy"), IMAGES, strict=True)
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), LABELS, strict=True)
    assert {name: array.shape for name, array in decoded.items()} == {"images": (2, 3, 4), "labels": (2,)}


LONG_HEADER = b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + bytes(100)
WHOLE = saved()
ENCRYPTED = WHOLE.replace(b"PK\x03\x04\x2d\x00\x00", b"PK\x03\x04\x2d\x00\x01").replace(
    b"PK\x01\x02\x2d\x03\x2d\x00\x00", b"PK\x01\x02\x2d\x03\x2d\x00\x01"
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped({"images.npy": npy(IMAGES)}), "expected arrays named images and labels, found 'images'"),
        (zipped({}), "expected arrays named images and labels, found none"),
        (
            zipped({f"{number}.npy": b"" for number in range(9)}),
            "expected arrays named images and labels, found '0', '1', '2', '3', '4', …",
        ),
        (saved(images=IMAGES / 255), "expected images of uint8, found float64"),
        (saved(labels=LABELS.astype(np.int64)), "expected labels of uint8, found int64"),
        (saved(images=np.array([None])), "expected images of uint8, found Python objects (a pickle), which are never loaded"),
        (
            zipped({"images.npy": b"\x80\x04N.", "labels.npy": b""}),
            "expected images in .npy format, found a header that is none",
        ),
        (
            zipped({"images.npy": LONG_HEADER, "labels.npy": b""}),
            "expected images in .npy format 1.0, found format 2.0",
        ),
        (saved(images=IMAGES[0]), "expected images of 3 dimension(s), found shape (3, 4)"),
        (saved(labels=LABELS[:, None]), "expected labels of 1 dimension(s), found shape (2, 1)"),
        (saved(images=IMAGES[:0]), "expected at least one element, found shape (0, 3, 4)"),
        (
            saved(images=np.asfortranarray(IMAGES)),
            "expected images row by row, as numpy.ascontiguousarray gives them, found the order of Fortran",
        ),
        (b"PK" + bytes(100), "expected an npz file, found a truncated or corrupt zip archive (File is not a zip file)"),
        (WHOLE[:-30], "expected an npz file, found a truncated or corrupt zip archive (File is not a zip file)"),
        (
            WHOLE.replace(IMAGES.tobytes(), IMAGES.tobytes()[::-1]),
            "expected an npz file, found a truncated or corrupt zip archive (Bad CRC-32 for file 'images.npy')",
        ),
        (
            zipped({"images.npy": npy(IMAGES), "labels.npy": npy(LABELS)}, zipfile.ZIP_BZIP2),
            "expected images stored or deflated, as numpy.savez writes it, found another compression or an encryption",
        ),
        (
            ENCRYPTED,
            "expected images stored or deflated, as numpy.savez writes it, found another compression or an encryption",
        ),
        (
            zipped({"images.npy": npy(IMAGES)[:-1], "labels.npy": npy(LABELS)}),
            "expected 24 bytes for shape (2, 3, 4), found 23: the file is truncated",
        ),
        (
            zipped({"images.npy": npy(IMAGES) + bytes(10_000_000), "labels.npy": npy(LABELS)}),
            "expected 24 bytes for shape (2, 3, 4), found more: trailing bytes follow",
        ),
    ],
)
def test_an_unexpected_npz_file_is_refused_with_the_reason(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(IdxError) as refusal:
        decode(content, tmp_path)

    assert str(refusal.value) == message


def test_a_zip_bomb_is_refused_before_writing(tmp_path: Path) -> None:
    bomb = saved(compressed=True, images=np.zeros((2000, 100, 100), np.uint8))
    assert len(bomb) < 100_000

    with pytest.raises(
        IdxError, match=r"^expected at most 1,000 bytes \(fetch.max_bytes\), found a header that announces 20,0"
    ):
        decode(bomb, tmp_path)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [(saved(), IMAGES), (saved(compressed=True), IMAGES), (zipped({"other.npy": npy(LABELS)}), LABELS)],
    ids=["by its name", "compressed", "the only one"],
)
def test_one_array_is_read_into_memory(content: bytes, expected: Pixels) -> None:
    np.testing.assert_array_equal(npz.read(io.BytesIO(content), "images", 1000), expected, strict=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped({"a.npy": b"", "b.npy": b""}), "expected one array, or one named images, found 'a', 'b'"),
        (zipped({}), "expected one array, or one named images, found none"),
        (
            saved(compressed=True, images=np.zeros((2000, 100, 100), np.uint8)),
            "expected images of at most 1,000 bytes, found a header that announces 20,000,000",
        ),
        (zipped({"images.npy": npy(IMAGES)[:-1]}), "expected 24 bytes for shape (2, 3, 4), found 23"),
        (zipped({"images.npy": npy(IMAGES) + bytes(10_000_000)}), "expected 24 bytes for shape (2, 3, 4), found more"),
    ],
)
def test_an_array_that_is_missing_ambiguous_or_of_the_wrong_size_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(IdxError) as refusal:
        npz.read(io.BytesIO(content), "images", 1000)

    assert str(refusal.value) == message


def test_a_zip_directory_that_would_fill_memory_is_not_read(tmp_path: Path) -> None:
    content = zipped({"a" * 60_000 + str(number): b"" for number in range(20)})

    with pytest.raises(IdxError, match=r"a truncated or corrupt zip archive \(a directory of more than a megabyte\)"):
        decode(content, tmp_path)


def test_a_member_name_that_is_not_text_is_refused(tmp_path: Path) -> None:
    content = zipped({"bild\N{LATIN SMALL LETTER A WITH DIAERESIS}.npy": b""}).replace(b"\xc3\xa4", b"\xff\xff")

    with pytest.raises(IdxError, match=r"a truncated or corrupt zip archive .*codec can't decode"):
        decode(content, tmp_path)


@settings(deadline=None, max_examples=200)
@given(position=st.integers(0, len(WHOLE) - 1), byte=st.integers(0, 255), end=st.integers(len(WHOLE) // 2, len(WHOLE)))
def test_a_damaged_file_is_decoded_correctly_or_refused(
    tmp_path_factory: pytest.TempPathFactory, position: int, byte: int, end: int
) -> None:
    content = bytes([*WHOLE[:position], byte, *WHOLE[position + 1 :]])[: end if position % 2 else None]
    folder = tmp_path_factory.mktemp("damaged")

    try:
        decode(content, folder)
    except IdxError:
        return
    found = [np.load(folder / f"{name}.npy") for name in ("images", "labels")]
    assert [array.tobytes() for array in found] == [IMAGES.tobytes(), LABELS.tobytes()]
