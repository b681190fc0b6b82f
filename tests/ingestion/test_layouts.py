"""Every layout gives the same arrays; what is wrong in one is refused by a message that says what and where."""

import io
import json
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline import fetch
from pipeline.core.paths import Paths
from pipeline.data.datasets import Split
from pipeline.ingestion.errors import ExtraDatasetError, NoSourceError
from tests import web
from tests.conftest import NAMES, SMALL, Edit
from tests.ingestion import writers
from tests.ingestion.writers import WRITERS, Data, png
from tests.web import Site

INK = np.arange(100, dtype=np.uint8).reshape(10, 10)


@pytest.fixture
def data(subset: Data) -> Data:
    """60 training and 20 test images."""
    return {
        name: Split(subset[name].images[:count], subset[name].labels[:count]) for name, count in (("train", 60), ("test", 20))
    }


def arrays() -> dict[str, Any]:
    return {name: np.load(f"data/raw/{name}.npy") for name in NAMES}


def expected(data: Data) -> dict[str, Any]:
    return {f"{name}_{kind}": getattr(split, kind) for name, split in data.items() for kind in ("images", "labels")}


def assert_arrays(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name in NAMES:
        np.testing.assert_array_equal(found[name], wanted[name], strict=True)


def refusal(edit: Edit, source: Path | str, changes: dict[str, Any] | None = None) -> str:
    """The reason why `source` is refused."""
    with pytest.raises(NoSourceError) as error:
        fetch.run(edit(SMALL | {"fetch.sources": [str(source)]} | (changes or {})), Paths())
    return str(error.value).splitlines()[1].strip().removeprefix(f"{source}: ")


@pytest.mark.parametrize("kind", WRITERS)
def test_every_layout_gives_the_same_arrays(kind: str, edit: Edit, data: Data, tmp_path: Path) -> None:
    source = WRITERS[kind](tmp_path, data)

    fetch.run(edit(SMALL | {"fetch.sources": [str(source)]}), Paths())

    assert_arrays(arrays(), expected(data))
    recorded = json.loads(Path("data/raw/manifest.json").read_text()).get("layouts")
    assert recorded == ({"mnist": kind} if kind != "IDX files" else None)


@pytest.mark.parametrize("kind", ["an npz file", "a folder per class, in photos.zip"])
def test_a_layout_is_read_from_an_address(kind: str, edit: Edit, data: Data, site: Site, tmp_path: Path) -> None:
    source = WRITERS[kind](tmp_path, data)
    site.answers[f"/{source.name}"] = web.content(source.read_bytes())

    result = fetch.run(edit(SMALL | {"fetch.sources": [f"{site.url}{source.name}"]}), Paths())

    assert_arrays(arrays(), expected(data))
    assert result.endswith(f"from {site.url}{source.name}")


@pytest.mark.parametrize("kind", ["a folder per class", "Parquet of images and labels", "an npz file"])
def test_an_extra_data_set_may_have_any_layout(kind: str, edit: Edit, data: Data, tmp_path: Path) -> None:
    writers.idx_files(tmp_path, data)
    more = {"train": data["test"]}
    (tmp_path / "more").mkdir()
    source = WRITERS[kind](tmp_path / "more", more)

    fetch.run(edit(SMALL | {"fetch.sources": ["idx"], "fetch.extra": [{"name": "more", "source": str(source)}]}), Paths())

    np.testing.assert_array_equal(arrays()["train_images"][60:], data["test"].images)
    np.testing.assert_array_equal(arrays()["train_labels"][60:], data["test"].labels)
    assert json.loads(Path("data/raw/manifest.json").read_text())["layouts"] == {"more": kind}


def test_an_extra_data_set_in_no_layout_is_refused(edit: Edit, data: Data, tmp_path: Path) -> None:
    writers.idx_files(tmp_path, data)
    Path("empty").mkdir()

    with pytest.raises(ExtraDatasetError, match=r"^extra more, empty: expected four IDX files, .* an empty folder"):
        fetch.run(edit(SMALL | {"fetch.sources": ["idx"], "fetch.extra": [{"name": "more", "source": "empty"}]}), Paths())


def test_the_next_source_is_used_after_one_in_another_layout(edit: Edit, data: Data, tmp_path: Path, capsys: Any) -> None:
    writers.keras_npz(tmp_path, data)
    Path("broken.npz").write_bytes(Path("keras.npz").read_bytes()[:-100])
    pins = {f"fetch.files.{name}.sha256": "0" * 64 for name in NAMES}

    fetch.run(edit(SMALL | {"fetch.sources": ["nowhere", "broken.npz", "keras.npz"]}), Paths())
    assert_arrays(arrays(), expected(data))
    assert "fetch     refused broken.npz: expected an npz file, found a truncated" in capsys.readouterr().out

    assert refusal(edit, "keras.npz", pins).startswith("expected content with SHA-256 000000000000…, found ")


def folder(root: Path, images: dict[str, Any]) -> Path:
    """A folder with image files: arrays are written as PNG."""
    for name, content in images.items():
        path = root / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else png(content))
    return root / "folder"


CLASSES = {"fetch.classes": ["a", "b"]}
ONE = {f"{split}/{label}/{number}.png": INK + number for split in ("train", "test") for label in "ab" for number in (0, 1)}


def test_files_of_file_managers_and_others_are_left_out_and_named(edit: Edit, tmp_path: Path, capsys: Any) -> None:
    junk = {
        "train/a/.DS_Store": b"",
        "train/a/Thumbs.db": b"",
        "test/b/._1.png": b"",
        "train/no.txt": b"",
        "train/x.png": INK,
    }
    source = folder(tmp_path, ONE | junk)

    fetch.run(edit(SMALL | CLASSES | {"fetch.sources": [str(source)]}), Paths())

    assert len(arrays()["train_images"]) == 4
    printed = capsys.readouterr().out
    assert "left out 1 file(s) that are no images by their names: train/no.txt" in printed
    assert "left out 1 file(s) in no class's folder: train/x.png" in printed
    assert "left out 3 hidden file(s) or folder(s): test/b/._1.png, train/a/.DS_Store, train/a/Thumbs.db" in printed


def test_names_with_spaces_quotes_line_breaks_and_other_letters_are_read(edit: Edit, tmp_path: Path) -> None:
    names = ["a b", 'quo"te', "it's", "ein Maß,", "猫"]
    file = "line\nbreak, 'quo\"te.png"
    source = folder(tmp_path, {f"{split}/{name}/{file}": INK + len(name) for split in ("train", "test") for name in names})

    fetch.run(edit(SMALL | {"fetch.sources": [str(source)], "fetch.classes": names}), Paths())

    assert sorted(arrays()["train_labels"]) == [0, 1, 2, 3, 4]


def test_validation_images_join_the_training_split_or_are_the_test_split(edit: Edit, tmp_path: Path) -> None:
    valid = {f"valid/{label}/2.png": INK + 2 for label in "ab"}
    params = SMALL | CLASSES | {"fetch.sources": ["folder"]}
    folder(tmp_path, ONE | valid)
    assert fetch.run(edit(params), Paths()).startswith("6 training and 4 test images of 10x10")

    for path in Path("folder/test").rglob("*.png"):
        path.unlink()
    for path in ("folder/test/a", "folder/test/b", "folder/test"):
        Path(path).rmdir()
    assert fetch.run(edit(params), Paths()).startswith("4 training and 2 test images of 10x10")


def test_images_of_several_sizes_are_scaled_and_padded(edit: Edit, tmp_path: Path) -> None:
    wide = np.full((10, 20), 7, np.uint8)
    wide[:, 5:15] = 250
    source = folder(tmp_path, ONE | {"train/a/5.png": wide})

    assert refusal(edit, source, CLASSES) == (
        "train/a/5.png: expected 10x10, as the images before it (fetch.size scales all to one size), found 10x20"
    )
    fetch.run(edit(SMALL | CLASSES | {"fetch.sources": [str(source)], "fetch.size": [10, 10]}), Paths())

    fitted = arrays()["train_images"][-1]
    assert fitted.shape == (10, 10)
    assert (fitted[:2] == 7).all()
    assert fitted[5, 5] > 200
    np.testing.assert_array_equal(arrays()["train_images"][0], INK)


def test_unreadable_files_are_left_out_below_a_share(edit: Edit, tmp_path: Path, capsys: Any) -> None:
    truncated = io.BytesIO()
    Image.fromarray(np.resize(INK, (64, 64))).save(truncated, "JPEG")
    source = folder(tmp_path, ONE | {"train/a/7.png": b"I am text", "train/b/8.jpg": truncated.getvalue()[:-50]})

    found = refusal(edit, source, CLASSES)
    assert found.startswith(
        "image files: expected at most 0.00% that cannot be read (fetch.max_unreadable), found 2 of 6 (33.33%): "
        "train/a/7.png (expected an image file, found a damaged file or another format)"
    )
    fetch.run(edit(SMALL | CLASSES | {"fetch.sources": [str(source)], "fetch.max_unreadable": 0.4}), Paths())

    assert len(arrays()["train_images"]) == 4
    assert "left out 2 file(s) that cannot be read: train/a/7.png" in capsys.readouterr().out


def table(text: str) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        (root / "table.csv").write_text(text)
        return root / "table.csv"

    return write


def parquet(columns: dict[str, Any]) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        import pyarrow as pa
        from pyarrow.parquet import write_table

        write_table(pa.table(columns), root / "images.parquet")
        return root / "images.parquet"

    return write


def npz(**arrays: Any) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        np.savez(root / "arrays.npz", **arrays)
        return root / "arrays.npz"

    return write


def files(**images: Any) -> Callable[[Path], Path]:
    return lambda root: folder(root, {name.replace("__", "/"): content for name, content in images.items()})


def outside(root: Path) -> Path:
    with tarfile.open(root / "evil.tar", "w") as archive:
        entry = tarfile.TarInfo("../evil.png")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"evil"))
    return root / "evil.tar"


def link(root: Path) -> Path:
    with tarfile.open(root / "link.tar", "w") as archive:
        entry = tarfile.TarInfo("a/link")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    return root / "link.tar"


def bomb(root: Path) -> Path:
    with zipfile.ZipFile(root / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.png", bytes(3_000_000))
    return root / "bomb.zip"


def lying_bomb(root: Path) -> Path:
    """Its directory announces 10 bytes."""
    content = bytearray(bomb(root).read_bytes())
    for position in (content.find(b"PK\x03\x04") + 22, content.find(b"PK\x01\x02") + 24):
        content[position : position + 4] = (10).to_bytes(4, "little")
    (root / "bomb.zip").write_bytes(bytes(content))
    return root / "bomb.zip"


PIXELS = ",".join(f"pixel{number}" for number in range(4))
STRUCT = [{"bytes": png(INK), "path": None}]
STACK = np.zeros((3, 4, 4), np.uint8)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda root: folder(root, {".hidden/1.png": INK}), "found an empty folder"),
        (files(a=b"text"), "expected four IDX files, a folder per class, .* found a"),
        (files(test__a__1=INK), "expected four IDX files"),
        (outside, r"expected names that stay within the archive, found '\.\./evil\.png', so nothing was unpacked"),
        (link, "expected files and folders in the archive, found the link or device 'a/link'"),
        (bomb, r"expected an archive of at most 1,000,000 bytes unpacked \(fetch.max_bytes\), found more"),
        (lying_bomb, "expected .*, found "),
        (table(f"label,{PIXELS}\n1,0,0,0,256\n"), r"table.csv line 2: expected whole numbers of 0 to 255 .*, found 256$"),
        (
            table(f"label,{PIXELS}\n1,0,0,0,0\n1,0,-1,0,0\n"),
            "line 3: expected whole numbers of 0 to 255 .*, found -1$",
        ),
        (table(f"label,{PIXELS}\n1,0,0.5,0,0\n"), "table.csv line 2: expected whole numbers of 0 to 255 .*, found 0.5$"),
        (table(f"label,{PIXELS}\n1,0,,0,0\n"), "table.csv line 2: expected whole numbers of 0 to 255 .*, found nan$"),
        (
            table(f"label,{PIXELS}\n1,0,0,0,0\n1,0,0,0\n"),
            "expected numbers in 5 columns of each row, .*Expected 5 columns",
        ),
        (table(f"label,{PIXELS}\n1,0,x,0,0\n"), "expected numbers in 5 columns of each row, found .*invalid value 'x'"),
        (
            table(f"{PIXELS},more\n0,0,0,0,0\n"),
            "expected a column named label, .* found the column.s. pixel0, pixel1",
        ),
        (
            table(f"label,{PIXELS},pixel4\n1,0,0,0,0,0\n"),
            "expected a square number of pixel columns, .* fetch.size, found 5",
        ),
        (table(f"label,{PIXELS}\n,0,0,0,0\n"), "table.csv line 2: expected a label in column label, found none"),
        (table(f"label,{PIXELS}\nyes,0,0,0,0\n"), r"line 2: expected a label among fetch.classes \('0', '1', .* found 'yes'"),
        (table("label,file\n1,nowhere.png\n"), "expected a column of pixels each, or one with the names of image files"),
        (table("label\n"), "expected a table with rows, found none"),
        (parquet({"label": [1, 2]}), "^expected a column of images .* found the column.s. label"),
        (parquet({"image": [b"x"], "a": [1], "b": [1]}), "^expected a column named label or labels, found"),
        (
            parquet({"image": [{"bytes": None, "path": "1.png"}], "label": [1]}),
            "row 0: expected the bytes of an image, found only a",
        ),
        (
            parquet({"image": STRUCT, "label": [0.5]}),
            "row 0: expected a label that is an integer or text, found 0.5",
        ),
        (parquet({"image": STRUCT, "label": [11]}), "images.parquet row 0: expected a label among fetch.classes"),
        (npz(images=STACK, labels=[0.5, 1, 1]), "expected labels that are integers, found 0.5"),
        (npz(images=STACK, labels=[0, 1]), r"expected a label for each image, found images \(3, 4, 4\) and labels \(2,\)"),
        (npz(images=STACK[0], labels=[0, 1, 2, 3]), r"expected images \(n, height, width\), found shape \(4, 4\)"),
        (npz(images=STACK + 300.0, labels=[0, 1, 1]), "expected whole numbers of 0 to 255 .*, found 300"),
        (npz(images=STACK, more=STACK), "expected one of images and one of labels for each split, found images"),
        (
            npz(images=np.array([{}], object), labels=[0]),
            "expected images as an array of numbers, found Python objects",
        ),
    ],
)
def test_what_is_wrong_in_a_layout_is_named(write: Callable[[Path], Path], message: str, edit: Edit, tmp_path: Path) -> None:
    found = refusal(edit, write(tmp_path), {"fetch.max_bytes": 1_000_000})

    assert re.search(message, found), found
    assert not (tmp_path.parent / "evil.png").exists()
    assert list(Path("data/raw").iterdir()) == []


def test_arrays_of_fractions_are_scaled_by_white(edit: Edit, tmp_path: Path) -> None:
    images = np.linspace(0, 16, 64).round().reshape(1, 8, 8).repeat(40, axis=0)
    np.savez("digits.npz", x_train=images, y_train=np.arange(40) % 10, x_test=images[:10], y_test=np.arange(10))

    fetch.run(edit(SMALL | {"fetch.sources": ["digits.npz"], "fetch.white": 16}), Paths())

    assert arrays()["train_images"].max() == 255
    np.testing.assert_array_equal(arrays()["train_images"][0], (images[0] / 16 * 255).round().astype(np.uint8))


def test_a_table_without_a_header_may_end_with_the_label(edit: Edit, tmp_path: Path) -> None:
    rows = [f"{','.join(map(str, [0, *INK.ravel()[:8] + number]))},{number}" for number in range(10)]
    for name in ("train", "test"):
        Path(f"{name}.csv").write_text("\n".join(rows))
    Path("tables").mkdir()
    for name in ("train", "test"):
        Path(f"{name}.csv").rename(f"tables/{name}.csv")

    fetch.run(edit(SMALL | {"fetch.sources": ["tables"]}), Paths())

    np.testing.assert_array_equal(arrays()["train_labels"], range(10))
    assert arrays()["train_images"].shape == (10, 3, 3)
