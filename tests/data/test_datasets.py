import hashlib
import io
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core import files
from pipeline.core.errors import MissingInputError, UnusableInputError
from pipeline.core.paths import Paths
from pipeline.data import datasets, idx
from pipeline.data.datasets import Pixels, Segment, Split
from pipeline.data.errors import MismatchError
from pipeline.data.idx import Hashed
from tests.conftest import NAMES, Edit
from tests.conftest import idx as as_idx

SHAPES = {"train_images": (30, 28, 28), "train_labels": (30,), "test_images": (10, 28, 28), "test_labels": (10,)}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train_labels": (29,)}, "train split: expected a label for each image, found 30 images and 29 labels."),
        ({"test_images": (1001, 28, 28)}, "test split: expected a label for each image, found 1,001 images and 10 labels."),
        ({"test_images": (10, 32, 28)}, "images: expected one size, found 28x28 in the train and 32x28 in the test split."),
    ],
)
def test_shapes_that_do_not_match_are_refused(changed: dict[str, tuple[int, ...]], message: str) -> None:
    datasets.check_shapes(SHAPES)

    with pytest.raises(MismatchError) as refusal:
        datasets.check_shapes(SHAPES | changed)

    assert str(refusal.value).splitlines()[0] == message
    assert "already in place are untouched" in str(refusal.value)


@pytest.fixture
def stored(edit: Edit, subset: dict[str, Split]) -> Paths:
    """The first images of the subset as `fetch` stores them."""
    paths = Paths()
    paths.raw.mkdir(parents=True)
    decoded = {}
    for key in NAMES:
        split, kind = key.split("_")
        array: Pixels = getattr(subset[split], kind)[:5]
        decoded[key] = idx.decode(io.BytesIO(as_idx(array)), array.ndim, paths.raw / f"{key}.npy", max_bytes=10_000)
    files.write_json(paths.manifest, datasets.manifest(decoded, {}, edit().fetch))
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
        pytest.param(as_idx(np.zeros((2, 3, 4), np.uint8)), id="not npy"),
        pytest.param(b"\x93NUMPY\x01\0\x0a\0{[]: 1}   \n", id="no header"),
    ],
)
def test_a_file_that_is_not_an_array_is_refused(content: bytes, stored: Paths) -> None:
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
def test_the_same_bytes_in_another_shape_order_or_type_are_refused(other: Pixels, stored: Paths, edit: Edit) -> None:
    blank = np.zeros((5, 28, 28), np.uint8)
    found = datasets.read_manifest(stored)["files"]
    found["train_images"]["sha256"] = hashlib.sha256(as_idx(blank)).hexdigest()
    decoded = {name: Hashed(**file) for name, file in found.items()}
    files.write_json(stored.manifest, datasets.manifest(decoded, {}, edit().fetch))
    np.save(stored.raw / "train_images.npy", blank)
    datasets.load(stored, "train")

    np.save(stored.raw / "train_images.npy", other)

    with pytest.raises(UnusableInputError, match="it changed after it was written"):
        datasets.load(stored, "train")


@pytest.mark.parametrize("name", ["train_images.npy", "train_labels.npy", "manifest.json"])
def test_a_missing_file_is_named(name: str, stored: Paths) -> None:
    (stored.raw / name).unlink()

    with pytest.raises(MissingInputError, match=f"^data/raw/{name}: expected this file from an earlier stage, found none"):
        datasets.load(stored, "train")


def test_the_fingerprint_depends_only_on_the_data_and_class_names(edit: Edit) -> None:
    decoded = {key: Hashed(SHAPES[key], key) for key in NAMES}
    other = decoded | {"test_labels": Hashed((10,), "other")}
    params = edit().fetch

    def fingerprint(files: dict[str, Hashed], changes: dict[str, object]) -> str:
        return str(datasets.manifest(files, {}, edit(changes).fetch)["fingerprint"])

    original = datasets.manifest(decoded, {}, params)["fingerprint"]
    assert fingerprint(decoded, {"fetch.sources": ["elsewhere"], "fetch.timeout": 9}) == original
    assert fingerprint(other, {}) != original
    assert fingerprint(decoded, {"fetch.classes": ["zero", *params.classes[1:]]}) != original


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"files": {}},
        {"fingerprint": "0", "parts": {}},
        {"parts": None},
    ],
)
def test_json_that_is_not_a_manifest_is_refused(content: Any, stored: Paths) -> None:
    files.write_json(stored.manifest, content)

    with pytest.raises(UnusableInputError, match=r"^data/raw/manifest.json: expected .* found .*: it changed after"):
        datasets.load(stored, "train")


def test_a_manifest_changed_by_hand_is_refused(stored: Paths) -> None:
    files.write_json(stored.manifest, datasets.read_manifest(stored) | {"licence": "none"})

    with pytest.raises(UnusableInputError, match="expected content that matches its fingerprint, found other content"):
        datasets.read_manifest(stored)


def test_the_segments_of_a_split_are_in_the_manifest(edit: Edit) -> None:
    decoded = {key: Hashed(SHAPES[key], key) for key in NAMES}
    segments = {"train": [Segment("base", 20, "a"), Segment("more", 10, "b")], "test": [Segment("test", 10, "c")]}
    paths = Paths()
    params = edit().fetch
    files.write_json(paths.manifest, datasets.manifest(decoded, segments, params))

    manifest = datasets.read_manifest(paths)

    assert {split: datasets.segments(manifest, split) for split in segments} == segments
    assert datasets.train_rows(paths) == [20, 10]
    assert datasets.slices([20, 10]) == [slice(0, 20), slice(20, 30)]
    assert (
        manifest["fingerprint"]
        != datasets.manifest(decoded, segments | {"train": [Segment("base", 30, "d")]}, params)["fingerprint"]
    )


@settings(deadline=None)
@given(rows=st.lists(st.integers(1, 2000), min_size=1, max_size=3), fraction=st.floats(0, 0.99))
def test_a_hold_out_is_disjoint_complete_sorted_and_of_the_requested_size(rows: list[int], fraction: float) -> None:
    fit, held_out = datasets.hold_out(rows, fraction)

    assert sorted([*fit, *held_out]) == list(range(sum(rows)))
    assert list(fit) == sorted(fit)
    assert list(held_out) == sorted(held_out)
    assert abs(len(held_out) - rows[0] * fraction) <= 0.5


def test_a_hold_out_is_reproducible_and_not_the_first_images() -> None:
    first, second = (datasets.hold_out([1000], 0.1)[1] for _ in range(2))

    np.testing.assert_array_equal(first, second)
    assert len(np.intersect1d(first, np.arange(100))) < 50


def test_a_hold_out_is_the_same_with_extra_data_sets() -> None:
    _, alone = datasets.hold_out([1000], 0.1)
    _, with_more = datasets.hold_out([1000, 500, 20], 0.1)

    np.testing.assert_array_equal(alone, with_more)


def test_an_empty_hold_out_leaves_all_images_for_fitting() -> None:
    fit, held_out = datasets.hold_out([7, 3], 0)

    np.testing.assert_array_equal(fit, np.arange(10))
    assert held_out.size == 0
