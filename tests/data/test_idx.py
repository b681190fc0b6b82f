import hashlib
import io
import math
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data import idx
from pipeline.data.errors import IdxError
from pipeline.data.idx import Pixels
from tests.conftest import from_idx
from tests.conftest import idx as as_idx

ARRAY = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
IMAGES = as_idx(ARRAY)


@pytest.fixture(scope="module")
def npy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("idx") / "array.npy"


def decode(content: bytes, npy: Path, dimensions: int = 3, max_bytes: int = 1000) -> idx.Hashed:
    return idx.decode(io.BytesIO(content), dimensions, npy, max_bytes)


def assert_refused(content: bytes, npy: Path, message: str, dimensions: int = 3) -> None:
    with pytest.raises(IdxError, match=f"^{re.escape(message)}$"):
        decode(content, npy, dimensions)


pixels = st.lists(st.integers(1, 5), min_size=1, max_size=4).flatmap(
    lambda shape: st.binary(min_size=math.prod(shape), max_size=math.prod(shape)).map(
        lambda content: np.frombuffer(content, np.uint8).reshape(shape)
    )
)


@settings(deadline=None)
@given(array=pixels)
def test_decoding_an_encoded_array_returns_it(npy: Path, array: Pixels) -> None:
    decoded = decode(as_idx(array), npy, array.ndim)

    np.testing.assert_array_equal(np.load(npy), array, strict=True)
    assert decoded.shape == array.shape
    assert decoded.sha256 == idx.sha256(npy) == hashlib.sha256(as_idx(array)).hexdigest()
    assert idx.shape(npy) == array.shape


damaged = st.builds(
    lambda content, position, byte, end: bytes([*content[:position], byte, *content[position + 1 :]])[:end],
    st.just(IMAGES + b"\0"),
    st.integers(0, len(IMAGES)),
    st.integers(0, 255),
    st.integers(len(IMAGES) - 1, len(IMAGES) + 1),
)


@settings(deadline=None, max_examples=300)
@given(content=damaged | st.binary() | st.binary().map(lambda rest: IMAGES[:16] + rest))
def test_any_bytes_are_decoded_correctly_or_refused(npy: Path, content: bytes) -> None:
    shape = struct.unpack(">3I", content[4:16].ljust(12, b"\0"))
    valid = content[:4] == b"\0\0\x08\x03" and 0 < math.prod(shape) == len(content) - 16

    try:
        decode(content, npy)
    except IdxError:
        assert not valid
    else:
        assert valid
        np.testing.assert_array_equal(np.load(npy), from_idx(content), strict=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected an IDX header (4 bytes), found 0 bytes"),
        (IMAGES[:3], "expected an IDX header (4 bytes), found 3 bytes"),
        (IMAGES[:9], "expected the sizes in an IDX header (12 bytes), found 5 bytes"),
        (b"\x89PNG" + IMAGES[4:], "expected the magic number of an IDX file, found bytes 89 50 4e 47"),
        (b"\0\0\x08\0", "expected the magic number of an IDX file, found bytes 00 00 08 00"),
        (b"\0\0\x0d\x03" + IMAGES[4:], "expected elements of type uint8 (0x08), found type 0x0d"),
        (as_idx(ARRAY[:, 0, 0]), "expected images of 3 dimension(s), found labels of 1"),
        (as_idx(ARRAY[0]), "expected images of 3 dimension(s), found an array of 2"),
        (IMAGES[:-1], "expected 24 bytes for shape (2, 3, 4), found 23: the file is truncated"),
        (IMAGES[:16], "expected 24 bytes for shape (2, 3, 4), found 0: the file is truncated"),
        (IMAGES + b"\0", "expected 24 bytes for shape (2, 3, 4), found more: trailing bytes follow"),
        (as_idx(ARRAY[:0]), "expected at least one element, found shape (0, 3, 4)"),
    ],
)
def test_an_unexpected_idx_file_is_refused_with_the_reason(npy: Path, content: bytes, message: str) -> None:
    assert_refused(content, npy, message)


def test_images_are_refused_as_labels(npy: Path) -> None:
    assert_refused(IMAGES, npy, "expected labels of 1 dimension(s), found images of 3", dimensions=1)


def test_a_header_with_too_large_a_shape_is_refused_before_reading_or_writing(tmp_path: Path) -> None:
    stream = io.BytesIO(b"\0\0\x08\x03" + b"\xff" * 12 + bytes(100))

    with pytest.raises(
        IdxError, match=r"^expected at most 1,000 bytes \(fetch.max_bytes\), found a header that announces 79,"
    ):
        idx.decode(stream, 3, tmp_path / "array.npy", max_bytes=1000)

    assert stream.tell() == 16
    assert list(tmp_path.iterdir()) == []


def test_an_array_of_the_largest_size_allowed_is_accepted(npy: Path) -> None:
    assert decode(IMAGES, npy, max_bytes=24).shape == (2, 3, 4)


@pytest.mark.filterwarnings("ignore")  # of the parser, about damaged headers
@settings(deadline=None, max_examples=500)
@given(position=st.integers(0, 127), byte=st.integers(0, 255))
def test_a_damaged_header_keeps_the_hash_only_if_the_array_is_the_same(npy: Path, position: int, byte: int) -> None:
    np.save(npy, ARRAY)
    content = bytearray(npy.read_bytes())
    content[position] = byte
    npy.write_bytes(content)

    if idx.sha256(npy) == hashlib.sha256(IMAGES).hexdigest():
        np.testing.assert_array_equal(np.load(npy), ARRAY, strict=True)


ROWS = st.tuples(st.integers(0, 9), st.integers(1, 9)).map(lambda pair: slice(pair[0], sum(pair)))


@settings(deadline=None)
@given(array=pixels, rows=ROWS)
def test_the_hash_of_some_rows_equals_that_of_a_file_with_only_these_rows(npy: Path, array: Pixels, rows: slice) -> None:
    np.save(npy, array)

    if len(array[rows]):
        assert idx.sha256(npy, rows=rows) == hashlib.sha256(as_idx(array[rows])).hexdigest()


def test_the_hash_of_several_files_is_that_of_their_concatenation(npy: Path, tmp_path: Path) -> None:
    np.save(npy, ARRAY)
    np.save(tmp_path / "labels.npy", ARRAY[:, 0, 0])

    both = idx.sha256(npy, tmp_path / "labels.npy")

    assert both == hashlib.sha256(IMAGES + as_idx(ARRAY[:, 0, 0])).hexdigest()


@pytest.mark.parametrize("change", [lambda content: content[:-1], lambda content: content + b"\0"], ids=["short", "long"])
def test_a_file_whose_length_contradicts_its_header_has_no_hash(change: Any, npy: Path) -> None:
    np.save(npy, ARRAY)
    npy.write_bytes(change(npy.read_bytes()))

    assert idx.sha256(npy) is None
    assert idx.sha256(npy, rows=slice(1)) is None


def test_arrays_are_concatenated_as_numpy_does(npy: Path, tmp_path: Path) -> None:
    np.save(source := tmp_path / "source.npy", ARRAY)

    joined = idx.concatenate([(source, slice(1)), (source, slice(None)), (source, slice(1, 2))], npy)

    np.save(tmp_path / "numpy.npy", expected := np.concatenate([ARRAY[:1], ARRAY, ARRAY[1:]]))
    assert joined == idx.Hashed((4, 3, 4), hashlib.sha256(as_idx(expected)).hexdigest())
    assert npy.read_bytes() == (tmp_path / "numpy.npy").read_bytes()
