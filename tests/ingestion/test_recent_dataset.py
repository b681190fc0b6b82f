"""Recent data sets: which images are for training and which for testing, and what the manifest says of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import fetch
from pipeline.core import files
from pipeline.core.errors import InvalidParamsError
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.data.datasets import Split
from tests.conftest import SMALL, Edit, write_source


@pytest.fixture(autouse=True)
def base(subset: dict[str, Split], edit: Edit) -> None:
    small = {name: Split(split.images[:30], split.labels[:30]) for name, split in subset.items()}
    write_source(Path("source"), small)
    edit(SMALL)


def part(subset: dict[str, Split], start: int, count: int) -> Split:
    return Split(subset["train"].images[start : start + count], subset["train"].labels[start : start + count])


def write(name: str, train: Split | None, test: Split | None) -> dict[str, Any]:
    """An npz file with these splits; return its entry in fetch.extra."""
    named = {"train": train, "test": test}
    arrays = {f"{axis}_{key}": array for key, split in named.items() if split for axis, array in zip("xy", split, strict=True)}
    np.savez(f"{name}.npz", **arrays)
    return {"name": name, "source": f"{name}.npz", "kind": "recent"}


def rows(split: str) -> dict[str, int]:
    return {segment.name: segment.rows for segment in datasets.segments(datasets.read_manifest(Paths()), split)}


def assert_equal(found: Split, expected: Split) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_test_split_is_never_trained_on_and_slices_name_it(edit: Edit, subset: dict[str, Split]) -> None:
    first = write("first", part(subset, 40, 5), part(subset, 50, 6))
    second = write("second", part(subset, 60, 4), part(subset, 70, 3))

    printed = fetch.run(edit({"fetch.extra": [first, second | {"weight": 7}]}), Paths())

    assert printed.startswith("39 training (9 of them extra) and 30 test images and 9 recent ones of 28x28")
    assert list(rows("train").values()) == [30, 5, 4]
    assert rows("recent") == {"first": 6, "second": 3}
    assert datasets.weights(datasets.read_manifest(Paths())) == [1, "auto", 7]
    slices = datasets.recent_slices(Paths(), newest=1)
    assert list(slices) == ["recent", "first", "second"]
    assert_equal(slices["first"], part(subset, 50, 6))
    assert_equal(slices["recent"], part(subset, 70, 3))
    assert len(datasets.recent_slices(Paths(), newest=2)["recent"].labels) == 9


def test_a_share_of_the_test_split_may_be_trained_on(edit: Edit, subset: dict[str, Split]) -> None:
    entry = write("today", part(subset, 40, 5), part(subset, 100, 100))

    fetch.run(edit({"fetch.extra": [entry | {"test_share": 0.6}]}), Paths())

    held = rows("recent")["today"]
    assert 45 <= held <= 75
    assert rows("train")["today"] == 105 - held


def test_without_a_test_split_half_is_held_out_by_content(edit: Edit, subset: dict[str, Split]) -> None:
    images, labels = part(subset, 100, 200)
    np.savez("today.npz", images=images, labels=labels)
    entry = {"name": "today", "source": "today.npz", "kind": "recent"}

    fetch.run(edit({"fetch.extra": [entry]}), Paths())
    before = {image.tobytes() for image in datasets.recent_slices(Paths(), 1)["today"].images}
    np.savez("today.npz", images=images[::-1], labels=labels[::-1])
    fetch.run(edit({"fetch.extra": [entry]}), Paths())

    assert 70 <= len(before) <= 130
    assert {image.tobytes() for image in datasets.recent_slices(Paths(), 1)["today"].images} == before


def test_a_set_of_test_images_alone_adds_no_training_image(edit: Edit, subset: dict[str, Split]) -> None:
    fetch.run(edit({"fetch.extra": [write("today", None, part(subset, 50, 6))]}), Paths())

    assert (rows("train")["today"], rows("recent")["today"]) == (0, 6)


def test_without_recent_sets_nothing_of_them_stays(edit: Edit, subset: dict[str, Split]) -> None:
    fetch.run(edit({"fetch.extra": []}), Paths())
    before = files.read_json(Paths().manifest)
    fetch.run(edit({"fetch.extra": [write("today", part(subset, 40, 5), part(subset, 50, 6))]}), Paths())

    fetch.run(edit({"fetch.extra": []}), Paths())

    assert files.read_json(Paths().manifest) == before
    assert not list(Paths().raw.glob("recent*"))
    assert datasets.recent_slices(Paths(), 1) == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "same", "weight": "auto"}, "kind: recent beside test_share and weight: auto"),
        ({"kind": "same", "test_share": 0.5}, "kind: recent beside test_share and weight: auto"),
        ({"name": "recent"}, "another name: all recent sets together are called so"),
        ({"weight": 0}, "fetch.extra"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str, edit: Edit, subset: dict[str, Split]) -> None:
    entry = write("today", part(subset, 40, 5), part(subset, 50, 6)) | changes

    with pytest.raises(InvalidParamsError, match=message):
        edit({"fetch.extra": [entry]})
