import hashlib
import io
import math
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core import datasets, files
from pipeline.core.datasets import Pixels, Split
from pipeline.core.errors import IdxError, MismatchError, MissingInputError, UnusableInputError
from pipeline.core.paths import Paths
from tests.conftest import NAMES, Edit, from_idx, idx

ARRAY = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
IMAGES = idx(ARRAY)


@pytest.fixture(scope="module")
def npy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("datasets") / "array.npy"


def decode(content: bytes, npy: Path, dimensions: int = 3, max_bytes: int = 1000) -> datasets.Decoded:
    return datasets.decode_idx(io.BytesIO(content), dimensions, npy, max_bytes)


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
def test_an_array_survives_idx_and_back(npy: Path, array: Pixels) -> None:
    decoded = decode(idx(array), npy, array.ndim)

    np.testing.assert_array_equal(np.load(npy), array, strict=True)
    assert decoded.shape == array.shape
    assert decoded.sha256 == datasets.idx_sha256(npy) == hashlib.sha256(idx(array)).hexdigest()
    assert datasets.shape(npy) == array.shape


damaged = st.builds(
    lambda content, position, byte, end: bytes([*content[:position], byte, *content[position + 1 :]])[:end],
    st.just(IMAGES + b"\0"),
    st.integers(0, len(IMAGES)),
    st.integers(0, 255),
    st.integers(len(IMAGES) - 1, len(IMAGES) + 1),
)


@settings(deadline=None, max_examples=300)
@given(content=damaged | st.binary() | st.binary().map(lambda rest: IMAGES[:16] + rest))
def test_any_bytes_are_decoded_right_or_refused(npy: Path, content: bytes) -> None:
    shape = struct.unpack(">3I", content[4:16].ljust(12, b"\0"))
    right = content[:4] == b"\0\0\x08\x03" and 0 < math.prod(shape) == len(content) - 16

    try:
        decode(content, npy)
    except IdxError:
        assert not right
    else:
        assert right
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
        (idx(ARRAY[:, 0, 0]), "expected images of 3 dimension(s), found labels of 1"),
        (idx(ARRAY[0]), "expected images of 3 dimension(s), found an array of 2"),
        (IMAGES[:-1], "expected 24 bytes for shape (2, 3, 4), found 23: the file is truncated"),
        (IMAGES[:16], "expected 24 bytes for shape (2, 3, 4), found 0: the file is truncated"),
        (IMAGES + b"\0", "expected 24 bytes for shape (2, 3, 4), found more: trailing bytes follow"),
        (idx(ARRAY[:0]), "expected at least one element, found shape (0, 3, 4)"),
    ],
)
def test_what_is_not_the_idx_file_expected_is_refused_by_its_fault(npy: Path, content: bytes, message: str) -> None:
    assert_refused(content, npy, message)


def test_images_are_not_labels(npy: Path) -> None:
    assert_refused(IMAGES, npy, "expected labels of 1 dimension(s), found images of 3", dimensions=1)


def test_a_header_that_announces_too_much_is_refused_before_anything_is_read_or_written(tmp_path: Path) -> None:
    stream = io.BytesIO(b"\0\0\x08\x03" + b"\xff" * 12 + bytes(100))

    with pytest.raises(
        IdxError, match=r"^expected at most 1,000 bytes \(fetch.max_bytes\), found a header that announces 79,"
    ):
        datasets.decode_idx(stream, 3, tmp_path / "array.npy", max_bytes=1000)

    assert stream.tell() == 16
    assert list(tmp_path.iterdir()) == []


def test_an_array_of_the_largest_size_allowed_is_accepted(npy: Path) -> None:
    assert decode(IMAGES, npy, max_bytes=24).shape == (2, 3, 4)


SHAPES = {"train_images": (30, 28, 28), "train_labels": (30,), "test_images": (10, 28, 28), "test_labels": (10,)}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train_labels": (29,)}, "train split: expected a label for each image, found 30 images and 29 labels."),
        ({"test_images": (1001, 28, 28)}, "test split: expected a label for each image, found 1,001 images and 10 labels."),
        ({"test_images": (10, 32, 28)}, "images: expected one size, found 28x28 in the train and 32x28 in the test split."),
    ],
)
def test_shapes_that_do_not_belong_together_are_refused(changed: dict[str, tuple[int, ...]], message: str) -> None:
    datasets.check_shapes(SHAPES)

    with pytest.raises(MismatchError) as refusal:
        datasets.check_shapes(SHAPES | changed)

    assert str(refusal.value).splitlines()[0] == message
    assert "already in place are untouched" in str(refusal.value)


@pytest.fixture
def stored(edit: Edit, subset: dict[str, Split]) -> Paths:
    """The first images of the subset as `fetch` leaves them."""
    paths = Paths()
    paths.raw.mkdir(parents=True)
    decoded = {}
    for key in NAMES:
        split, kind = key.split("_")
        array: Pixels = getattr(subset[split], kind)[:5]
        decoded[key] = decode(idx(array), paths.raw / f"{key}.npy", array.ndim, max_bytes=10_000)
    files.write_json(paths.manifest, datasets.manifest(decoded, edit().fetch))
    return paths


def test_a_split_is_loaded_memory_mapped(stored: Paths, subset: dict[str, Split]) -> None:
    for split in ("train", "test"):
        loaded = datasets.load(stored, split)

        assert isinstance(loaded.images, np.memmap)
        np.testing.assert_array_equal(loaded.images, subset[split].images[:5], strict=True)
        np.testing.assert_array_equal(loaded.labels, subset[split].labels[:5], strict=True)


@pytest.mark.parametrize("key", NAMES)
def test_an_array_that_changed_after_it_was_written_is_refused(key: str, stored: Paths) -> None:
    path = stored.raw / f"{key}.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    with pytest.raises(UnusableInputError) as refusal:
        datasets.load(stored, key.split("_")[0])

    assert re.match(f"{path}: expected content with SHA-256 .{{12}}…, found .{{12}}…: it changed", str(refusal.value))
    assert f"Delete {path} and run `dvc repro`" in str(refusal.value)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(IMAGES, id="not npy"),
        pytest.param(b"\x93NUMPY\x01\0\x0a\0{[]: 1}   \n", id="no header"),
    ],
)
def test_a_file_that_is_no_array_is_refused(content: bytes, stored: Paths) -> None:
    (stored.raw / "test_labels.npy").write_bytes(content)

    with pytest.raises(UnusableInputError, match="found no array of uint8: it changed after it was written"):
        datasets.load(stored, "test")


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(np.asfortranarray(np.zeros((5, 28, 28), np.uint8)), id="transposed"),
        pytest.param(np.zeros((5, 28, 28), np.int8), id="signed"),
        pytest.param(np.zeros((5, 784), np.uint8), id="flat"),
    ],
)
def test_the_same_bytes_in_another_form_are_refused(other: Pixels, stored: Paths, edit: Edit) -> None:
    blank = np.zeros((5, 28, 28), np.uint8)
    manifest = files.read_json(stored.manifest)
    manifest["files"]["train_images"]["sha256"] = hashlib.sha256(idx(blank)).hexdigest()
    files.write_json(stored.manifest, manifest)
    np.save(stored.raw / "train_images.npy", blank)
    datasets.load(stored, "train")

    np.save(stored.raw / "train_images.npy", other)

    with pytest.raises(UnusableInputError, match="it changed after it was written"):
        datasets.load(stored, "train")


@pytest.mark.filterwarnings("ignore")  # of the Python parser, on what a header may become
@settings(deadline=None, max_examples=500)
@given(position=st.integers(0, 127), byte=st.integers(0, 255))
def test_no_damage_to_a_header_is_taken_for_the_array(npy: Path, position: int, byte: int) -> None:
    np.save(npy, ARRAY)
    content = bytearray(npy.read_bytes())
    content[position] = byte
    npy.write_bytes(content)

    if datasets.idx_sha256(npy) == hashlib.sha256(IMAGES).hexdigest():
        np.testing.assert_array_equal(np.load(npy), ARRAY, strict=True)


@pytest.mark.parametrize("name", ["train_images.npy", "train_labels.npy", "manifest.json"])
def test_a_missing_file_is_named(name: str, stored: Paths) -> None:
    (stored.raw / name).unlink()

    with pytest.raises(MissingInputError, match=f"^data/raw/{name}: expected this file from an earlier stage, found none"):
        datasets.load(stored, "train")


def test_the_fingerprint_follows_the_data_and_its_meaning_only(edit: Edit) -> None:
    decoded = {key: datasets.Decoded(SHAPES[key], key) for key in NAMES}
    other = decoded | {"test_labels": datasets.Decoded((10,), "other")}
    params = edit().fetch

    def fingerprint(files: dict[str, datasets.Decoded], changes: dict[str, object]) -> str:
        return str(datasets.manifest(files, edit(changes).fetch)["fingerprint"])

    original = datasets.manifest(decoded, params)["fingerprint"]
    assert fingerprint(decoded, {"fetch.sources": ["elsewhere"], "fetch.timeout": 9}) == original
    assert fingerprint(other, {}) != original
    assert fingerprint(decoded, {"fetch.classes": ["zero", *params.classes[1:]]}) != original


@settings(deadline=None)
@given(count=st.integers(1, 2000), fraction=st.floats(0, 0.99))
def test_a_hold_out_is_disjoint_complete_sorted_and_of_the_size_asked_for(count: int, fraction: float) -> None:
    fit, held_out = datasets.hold_out(count, fraction)

    assert sorted([*fit, *held_out]) == list(range(count))
    assert list(fit) == sorted(fit)
    assert list(held_out) == sorted(held_out)
    assert abs(len(held_out) - count * fraction) <= 0.5


def test_a_hold_out_is_the_same_each_time_and_not_the_first_images() -> None:
    first, second = (datasets.hold_out(1000, 0.1)[1] for _ in range(2))

    np.testing.assert_array_equal(first, second)
    assert len(np.intersect1d(first, np.arange(100))) < 50


def test_a_hold_out_of_nothing_leaves_all_to_fit_on() -> None:
    fit, held_out = datasets.hold_out(10, 0)

    np.testing.assert_array_equal(fit, np.arange(10))
    assert held_out.size == 0
