"""Extra data sets, from their source to data/raw: what is accepted, what is refused, and the messages."""

import gzip
import hashlib
import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline import fetch
from pipeline.core import files
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.data.datasets import Pixels, Split
from pipeline.ingestion.errors import ExtraDatasetError
from tests import web
from tests.conftest import NAMES, SMALL, Edit, idx, write_source
from tests.imports import ROOT
from tests.web import Site

Data = dict[str, Split]


@pytest.fixture
def data(subset: Data) -> Data:
    """30 training and 10 test images."""
    return {
        name: Split(subset[name].images[:count], subset[name].labels[:count]) for name, count in (("train", 30), ("test", 10))
    }


@pytest.fixture
def more(subset: Data) -> Split:
    """8 other training images."""
    return Split(subset["train"].images[50:58], subset["train"].labels[50:58])


@pytest.fixture(autouse=True)
def base(data: Data, tmp_path: Path, edit: Edit) -> None:
    """A tree with a pinned source of the base."""
    write_source(tmp_path / "source", data)
    hashes = {name: hashlib.sha256(idx(array(data, name))).hexdigest() for name in NAMES}
    edit(SMALL | {f"fetch.files.{name}.sha256": digest for name, digest in hashes.items()})


def array(data: Data, name: str) -> Pixels:
    split, kind = name.split("_")
    pixels: Pixels = getattr(data[split], kind)
    return pixels


def npz(split: Split) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, images=split.images, labels=split.labels)
    return stream.getvalue()


def sha256(split: Split) -> str:
    return hashlib.sha256(idx(split.images) + idx(split.labels)).hexdigest()


def entry(**changes: Any) -> dict[str, Any]:
    return {"name": "more", "source": "more.npz", "sha256": None} | changes


IDX = {"source": "folder", "images": "more-images", "labels": "more-labels"}


def place(split: Split) -> None:
    """Put `split` into the current folder, as npz and as IDX files."""
    Path("more.npz").write_bytes(npz(split))
    Path("folder").mkdir(exist_ok=True)
    Path("folder/more-images.gz").write_bytes(gzip.compress(idx(split.images)))
    Path("folder/more-labels").write_bytes(idx(split.labels))


def assert_extended(data: Data, *sets: Split) -> None:
    """Assert that data/raw loads as the base followed by `sets`."""
    train, test = (datasets.load(Paths(), name) for name in ("train", "test"))
    for kind in ("images", "labels"):
        expected = np.concatenate([getattr(each, kind) for each in (data["train"], *sets)])
        np.testing.assert_array_equal(getattr(train, kind), expected, strict=True)
        np.testing.assert_array_equal(getattr(test, kind), getattr(data["test"], kind), strict=True)


@pytest.mark.parametrize("form", ["npz", "IDX", "npz at a site", "IDX at a site"])
def test_an_extra_data_set_follows_the_base(form: str, edit: Edit, data: Data, more: Split, site: Site) -> None:
    place(more)
    site.answers = {
        "/more.npz": web.content(npz(more)),
        "/folder/more-images.gz": web.content(gzip.compress(idx(more.images))),
        "/folder/more-labels": web.content(idx(more.labels)),
    }
    changes = (IDX if form.startswith("IDX") else {}).copy()
    if form.endswith("site"):
        changes["source"] = site.url + (changes["source"] if changes else "more.npz?version=1")
        site.answers["/more.npz?version=1"] = site.answers["/more.npz"]

    result = fetch.run(edit({"fetch.extra": [entry(**changes)]}), Paths())

    assert_extended(data, more)
    assert result == "38 training (8 of them extra) and 10 test images of 28x28, from source"
    assert datasets.train_rows(Paths()) == [30, 8]


def test_the_examples_in_the_docs_add_both_data_sets(edit: Edit, data: Data, more: Split, subset: Data) -> None:
    section = (ROOT / "docs" / "own-data.md").read_text(encoding="utf-8").partition("## Add data")[2]
    (listed, *_) = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    np.savez("collected.npz", images=more.images, labels=more.labels)
    other = Split(subset["train"].images[70:75], subset["train"].labels[70:75])
    Path("scanned").mkdir()
    Path("scanned/scanned-images.gz").write_bytes(gzip.compress(idx(other.images)))
    Path("scanned/scanned-labels").write_bytes(idx(other.labels))

    fetch.run(edit({"fetch.extra": YAML(typ="safe").load(listed)["extra"]}), Paths())

    assert_extended(data, more, other)


def test_the_manifest_lists_the_segments_and_not_their_sources(
    edit: Edit, data: Data, more: Split, capsys: pytest.CaptureFixture[str]
) -> None:
    place(more)
    written = []
    for changes in ({}, IDX):
        fetch.run(edit({"fetch.extra": [entry(**changes), entry(name="other", sha256=sha256(more))]}), Paths())
        written.append(Paths().manifest.read_bytes())

    assert written[0] == written[1]
    assert b"more.npz" not in written[0]
    assert files.read_json(Paths().manifest)["parts"] == {
        "train": [
            {"name": "mnist-train", "rows": 30, "sha256": sha256(data["train"])},
            {"name": "more", "rows": 8, "sha256": sha256(more)},
            {"name": "other", "rows": 8, "sha256": sha256(more)},
        ],
        "test": [{"name": "mnist-test", "rows": 10, "sha256": sha256(data["test"])}],
    }
    printed = capsys.readouterr().out
    assert printed.count(f"extra more is not pinned: its SHA-256 is {sha256(more)}") == 2
    assert "extra other is not pinned" not in printed


def test_pinned_extra_data_sets_in_place_are_not_fetched_again(edit: Edit, data: Data, more: Split) -> None:
    place(more)
    edit({"fetch.extra": [entry(sha256=sha256(more))]})
    fetch.run(edit(), Paths())
    before = {path.name: path.read_bytes() for path in Paths().raw.iterdir()}
    Path("more.npz").unlink()

    result = fetch.run(edit({"fetch.sources": ["nowhere"]}), Paths())

    assert result.endswith("already in data/raw")
    assert {path.name: path.read_bytes() for path in Paths().raw.iterdir()} == before


def test_the_base_stays_in_place_when_extra_data_sets_change(edit: Edit, data: Data, more: Split, subset: Data) -> None:
    place(more)
    other = Split(subset["train"].images[70:75], subset["train"].labels[70:75])
    Path("other.npz").write_bytes(npz(other))
    fetch.run(edit(), Paths())
    edit({"fetch.sources": ["nowhere"]})

    for names, sets in ((["more"], [more]), (["more", "other"], [more, other]), (["other"], [other]), ([], [])):
        result = fetch.run(edit({"fetch.extra": [entry(name=name, source=f"{name}.npz") for name in names]}), Paths())

        assert_extended(data, *sets)
        assert result.endswith("already in data/raw")


def test_an_unpinned_extra_data_set_is_fetched_again(edit: Edit, data: Data, more: Split) -> None:
    place(more)
    fetch.run(edit({"fetch.extra": [entry()]}), Paths())
    changed = Split(more.images[:3], more.labels[:3])
    place(changed)

    fetch.run(edit(), Paths())

    assert_extended(data, changed)


@pytest.mark.parametrize("damage", [-1, -9 * 784, 130])
def test_damaged_arrays_in_place_are_fetched_again(damage: int, edit: Edit, data: Data, more: Split) -> None:
    place(more)
    params = edit({"fetch.extra": [entry(sha256=sha256(more))]})
    fetch.run(params, Paths())
    images = Paths().raw / "train_images.npy"
    content = bytearray(images.read_bytes())
    content[damage] ^= 1
    images.write_bytes(content)

    fetch.run(params, Paths())

    assert_extended(data, more)


def refusal(edit: Edit, **changes: Any) -> str:
    """The error that refuses an extra data set, without the advice. Assert that the arrays in place are kept."""
    fetch.run(edit({"fetch.extra": []}), Paths())
    before = {path.name: path.read_bytes() for path in Paths().raw.iterdir()}
    with pytest.raises(ExtraDatasetError) as raised:
        fetch.run(edit({"fetch.extra": [entry(**changes)]}), Paths())
    error, advice = str(raised.value).splitlines()
    assert {path.name: path.read_bytes() for path in Paths().raw.iterdir()} == before
    assert advice == "The arrays already in place are untouched. Fix the data set, or its entry of fetch.extra in params.yaml."
    return error.removesuffix(".")


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"labels": None}, "expected arrays named images and labels, found 'images'"),
        ({"images": np.zeros((8, 28, 28))}, "expected images of uint8, found float64"),
        ({"labels": np.zeros(8, np.int64)}, "expected labels of uint8, found int64"),
        (
            {"images": np.zeros((8, 32, 28), np.uint8)},
            "expected images of 28x28, as the training split has, found 32x28",
        ),
        ({"labels": np.zeros(7, np.uint8)}, "expected a label for each image, found 8 images and 7 labels"),
        (
            {"labels": np.array([{}] * 8, object)},
            "expected labels of uint8, found Python objects (a pickle), which are never loaded",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused_with_the_reason(
    arrays: dict[str, Any], reason: str, edit: Edit, more: Split
) -> None:
    whole = {"images": more.images, "labels": more.labels} | arrays
    np.savez("more.npz", **{name: content for name, content in whole.items() if content is not None})

    assert refusal(edit) == f"extra more, more.npz: {reason}"


def test_idx_files_that_do_not_fit_are_refused_with_the_reason(edit: Edit, more: Split) -> None:
    place(Split(more.images, more.labels[:7]))
    assert refusal(edit, **IDX) == "extra more, folder: expected a label for each image, found 8 images and 7 labels"

    Path("folder/more-labels").write_bytes(idx(more.images))
    expected = "extra more, folder: more-labels: expected labels of 1 dimension(s), found images of 3"
    assert refusal(edit, **IDX) == expected

    Path("folder/more-labels").unlink()
    assert refusal(edit, **IDX) == "extra more, folder: has no more-labels"


def test_a_corrupt_npz_file_is_refused(edit: Edit, more: Split) -> None:
    content = bytearray(npz(more))
    content[100:120] = bytes(20)
    Path("more.npz").write_bytes(content)
    assert refusal(edit).startswith("extra more, more.npz: expected an npz file, found a truncated or corrupt zip archive (")

    Path("more.npz").write_bytes(gzip.compress(npz(more)))
    assert refusal(edit) == "extra more, more.npz: expected an npz file, found a gzip file"


def test_a_zip_bomb_is_refused(edit: Edit, more: Split) -> None:
    with zipfile.ZipFile("more.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for kind in ("images", "labels"):
            stream = io.BytesIO()
            np.save(stream, getattr(more, kind))
            archive.writestr(f"{kind}.npy", stream.getvalue() + bytes(50_000_000))

    assert refusal(edit).endswith("expected 6,272 bytes for shape (8, 28, 28), found more: trailing bytes follow")


def test_content_that_differs_from_its_pinned_hash_is_refused(edit: Edit, more: Split) -> None:
    place(more)
    expected, changed = sha256(more), Split(more.images, (more.labels + 1) % 10)
    place(changed)

    error = refusal(edit, sha256=expected)

    assert error == (f"extra more, more.npz: expected content with SHA-256 {expected[:12]}…, found {sha256(changed)[:12]}…")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("nowhere/more.npz", "no such file or folder"),
        ("http://example.org/more.npz", "http:// is not accepted: expected https, a file or a folder"),
    ],
)
def test_a_source_that_cannot_be_used_is_named_without_credentials(source: str, reason: str, edit: Edit) -> None:
    error = refusal(edit, source=source)

    assert error == f"extra more, {source}: {reason}"


def test_a_failing_site_is_named_with_its_response(edit: Edit, site: Site) -> None:
    site.answers["/more.npz"] = web.status(500)
    assert refusal(edit, source=f"{site.url}more.npz") == f"extra more, {site.url}more.npz: HTTP 500 Internal Server Error"

    del site.answers["/more.npz"]
    assert refusal(edit, source=f"{site.url}more.npz") == f"extra more, {site.url}more.npz: has no more.npz"

    dead = web.closed()
    assert refusal(edit, source=f"{dead}more.npz") == f"extra more, {dead}more.npz: Connection refused"


def test_only_the_extra_data_set_is_requested_from_its_site(edit: Edit, site: Site, more: Split) -> None:
    site.answers["/more.npz"] = web.content(npz(more))

    fetch.run(edit({"fetch.sources": ["source", site.url], "fetch.extra": [entry(source=f"{site.url}more.npz")]}), Paths())

    assert (site.probed, site.asked) == (1, ["/more.npz"])
