import base64
import gzip
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipeline import fetch
from pipeline.core.paths import Paths
from pipeline.data.datasets import Pixels, Split
from pipeline.data.errors import MismatchError
from pipeline.ingestion.errors import NoSourceError
from tests import web
from tests.conftest import EMBEDDED, NAMES, SMALL, Edit, from_idx, idx, write_source
from tests.imports import ROOT
from tests.web import Site

Data = dict[str, Split]
FIRST = NAMES["train_images"]


@pytest.fixture
def data(subset: Data) -> Data:
    """30 training and 10 test images."""
    return {
        name: Split(subset[name].images[:count], subset[name].labels[:count]) for name, count in (("train", 30), ("test", 10))
    }


def array(data: Data, key: str) -> Pixels:
    split, kind = key.split("_")
    pixels: Pixels = getattr(data[split], kind)
    return pixels


def pinned(data: Data) -> dict[str, object]:
    """Changes to the parameters that pin the hashes of `data`."""
    return SMALL | {f"fetch.files.{key}.sha256": hashlib.sha256(idx(array(data, key))).hexdigest() for key in NAMES}


def publish(site: Site, data: Data, suffix: str = ".gz") -> None:
    """Put the four files of `data` on the site's top level."""
    for key, name in NAMES.items():
        body = idx(array(data, key))
        site.answers[f"/{name}{suffix}"] = web.content(gzip.compress(body, 1) if suffix == ".gz" else body)


def in_place() -> dict[str, Pixels]:
    return {key: np.load(f"data/raw/{key}.npy") for key in NAMES}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_equal(found: dict[str, Pixels], data: Data) -> None:
    for key in NAMES:
        np.testing.assert_array_equal(found[key], array(data, key), strict=True)


def test_the_first_source_is_used(edit: Edit, data: Data, tmp_path: Path) -> None:
    inverted = {name: Split(255 - split.images, split.labels) for name, split in data.items()}
    write_source(tmp_path / "first", data)
    write_source(tmp_path / "second", inverted)

    result = fetch.run(edit(SMALL | {"fetch.sources": ["first", "second"]}), Paths())

    assert_equal(in_place(), data)
    assert result == "30 training and 10 test images of 28x28, from first"


def test_a_source_that_lacks_a_file_is_used_for_the_others(edit: Edit, data: Data, tmp_path: Path) -> None:
    write_source(tmp_path / "partial", data)
    write_source(tmp_path / "whole", data)
    (tmp_path / "partial" / f"{NAMES['train_labels']}.gz").unlink()

    result = fetch.run(edit(SMALL | {"fetch.sources": ["partial", "whole"]}), Paths())

    assert_equal(in_place(), data)
    assert result.endswith("from partial, whole")


def corrupt(body: bytes) -> bytes:
    """A gzip file with its middle overwritten."""
    packed = gzip.compress(body)
    middle = len(packed) // 2
    return packed[:middle] + bytes(20) + packed[middle + 20 :]


HTML = b"<!DOCTYPE html><title>Sign in to the network</title>"
WRONG = idx(np.zeros((30, 28, 28), np.uint8))
BOMB = gzip.compress(idx(np.zeros((1, 28, 28), np.uint8)) + bytes(50_000_000), 1)  # 200 kB
OVERSIZED = gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12)

FAULTS: dict[str, tuple[Callable[[bytes], web.Answer], str]] = {
    "drops the connection halfway": (lambda body: web.truncated(gzip.compress(body)), "the connection broke off"),
    "truncated file, complete response": (
        lambda body: web.content(gzip.compress(body)[:-500]),
        "truncated or corrupt gzip data (Compressed file ended before",
    ),
    "corrupt": (lambda body: web.content(corrupt(body)), "truncated or corrupt gzip data"),
    "fails its checksum": (
        lambda body: web.content(gzip.compress(body)[:-8] + bytes(8)),
        "truncated or corrupt gzip data (CRC check failed",
    ),
    "shorter than its header says": (
        lambda body: web.content(body[:-1]),
        "expected 23,520 bytes for shape (30, 28, 28), found 23,519: the file is truncated",
    ),
    "stalls": (lambda body: web.stalling(gzip.compress(body)), "no answer in time"),
    "drips": (lambda body: web.dripping(gzip.compress(body)), "not complete after 0.5 s (fetch.deadline)"),
    "drips before the file": (lambda body: web.dripping_head, "not complete after 0.5 s (fetch.deadline)"),
    "other content": (lambda body: web.content(gzip.compress(WRONG)), "expected content with SHA-256"),
    "an HTML page": (lambda body: web.content(HTML), "expected the magic number of an IDX file, found bytes 3c 21"),
    "empty": (lambda body: web.content(b""), "expected an IDX header (4 bytes), found 0 bytes"),
    "trailing data": (
        lambda body: web.content(BOMB),
        "expected 784 bytes for shape (1, 28, 28), found more: trailing bytes follow",
    ),
    "too large a shape": (
        lambda body: web.content(OVERSIZED),
        "expected at most 4,000,000,000 bytes (fetch.max_bytes), found",
    ),
    "status 403": (lambda body: web.status(403), "HTTP 403 Forbidden"),
    "status 500": (lambda body: web.status(500), "HTTP 500 Internal Server Error"),
    "endless redirects": (lambda body: web.redirect(f"/{FIRST}.gz"), "redirects without end"),
    "redirects to plain http": (lambda body: web.redirect("http://example.org/"), "http:// is not accepted: expected https"),
}


LIMITS = {
    "stalls": {"fetch.timeout": 0.5},
    "drips": {"fetch.deadline": 0.5},
    "drips before the file": {"fetch.deadline": 0.5},
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_source_is_refused_once_and_the_next_is_used(
    name: str,
    edit: Edit,
    data: Data,
    site: Site,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fault, reason = FAULTS[name]
    publish(site, data)
    spellings = (f"/{FIRST}.gz", f"/{FIRST}")
    for spelling in spellings:
        site.answers[spelling] = fault(idx(data["train"].images))
    write_source(tmp_path / "next", data)
    params = edit(pinned(data) | {"fetch.sources": [site.url, "next"]} | LIMITS.get(name, {}))

    result = fetch.run(params, Paths())

    assert_equal(in_place(), data)
    assert result.endswith("from next")
    refusals = [line for line in capsys.readouterr().out.splitlines() if "refused" in line]
    assert len(refusals) == 1
    assert refusals[0].startswith(f"fetch     refused {site.url}: {FIRST}: {reason}")
    assert set(site.asked) <= set(spellings)


def test_a_site_is_not_refused_for_lacking_a_file(
    edit: Edit, data: Data, site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(site, data)
    del site.answers[f"/{FIRST}.gz"]
    write_source(tmp_path / "next", data)

    result = fetch.run(edit(pinned(data) | {"fetch.sources": [site.url, "next"]}), Paths())

    assert_equal(in_place(), data)
    assert result.endswith(f"from next, {site.url}")
    assert "refused" not in capsys.readouterr().out


def test_a_dead_network_delays_fetch_by_less_than_5_seconds(
    edit: Edit, data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    write_source(tmp_path / "source", data)
    with web.silent() as first, web.silent() as second, web.silent() as third:
        dead = web.closed()
        params = edit(pinned(data) | {"fetch.sources": [first, second, dead, third, "source"]})

        start = time.monotonic()
        fetch.run(params, Paths())
        took = time.monotonic() - start

    printed = capsys.readouterr().out
    assert took < 5
    assert_equal(in_place(), data)
    assert f"refused {dead}: Connection refused" in printed
    assert all(f"refused {address}: no answer in" in printed for address in (first, second, third))


def test_a_site_after_a_complete_folder_gets_no_request(edit: Edit, data: Data, site: Site, tmp_path: Path) -> None:
    write_source(tmp_path / "source", data)

    fetch.run(edit(SMALL | {"fetch.sources": ["source", site.url]}), Paths())

    assert (site.probed, site.asked) == (0, [])


def test_a_site_after_an_incomplete_folder_gets_one_request(edit: Edit, data: Data, site: Site, tmp_path: Path) -> None:
    write_source(tmp_path / "source", data)
    (tmp_path / "source" / f"{FIRST}.gz").unlink()
    publish(site, data)

    fetch.run(edit(SMALL | {"fetch.sources": ["source", site.url]}), Paths())

    assert (site.probed, site.asked) == (1, [f"/{FIRST}.gz"])


def test_a_source_may_be_four_single_files(edit: Edit, data: Data, tmp_path: Path) -> None:
    folder = write_source(tmp_path / "source", data)
    sources = sorted(str(path) for path in folder.iterdir())

    fetch.run(edit(SMALL | {"fetch.sources": sources}), Paths())

    assert_equal(in_place(), data)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_source_may_be_the_address_of_a_folder(suffix: str, edit: Edit, data: Data, site: Site) -> None:
    publish(site, data, suffix)

    fetch.run(edit(SMALL | {"fetch.sources": [site.url]}), Paths())

    assert_equal(in_place(), data)


def test_a_source_may_be_the_addresses_of_single_files_in_any_order(edit: Edit, data: Data, site: Site) -> None:
    publish(site, data)
    sources = [f"{site.url}{name}.gz" for name in reversed(NAMES.values())]

    fetch.run(edit(SMALL | {"fetch.sources": sources}), Paths())

    assert_equal(in_place(), data)
    assert sorted(site.asked) == sorted(f"/{name}.gz" for name in NAMES.values())


def test_when_all_sources_fail_each_is_listed_with_its_reason(edit: Edit, data: Data, site: Site, tmp_path: Path) -> None:
    site.answers[f"/{FIRST}.gz"] = web.status(500)
    write_source(tmp_path / "empty", data)
    (tmp_path / "empty" / f"{FIRST}.gz").unlink()
    dead = web.closed()

    with pytest.raises(NoSourceError) as refusal:
        fetch.run(edit(SMALL | {"fetch.sources": [dead, site.url, "nowhere", "empty"]}), Paths())

    assert str(refusal.value).splitlines() == [
        f"{FIRST}: expected one of 4 sources to have it, none did:",
        f"  {dead}: Connection refused",
        f"  {site.url}: {FIRST}: HTTP 500 Internal Server Error",
        f"  nowhere: {FIRST}: no such file or folder",
        f"  empty: has no {FIRST}",
        "The arrays already in place are untouched. Add a source to fetch.sources in params.yaml.",
    ]


def test_queries_of_addresses_are_never_shown(
    edit: Edit, data: Data, site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(site, data)
    write_source(tmp_path / "source", data)
    with_secrets = [f"{address}?v=hunter3#hunter4" for address in (web.closed(), site.url)]

    site.answers[f"/{FIRST}.gz?v=hunter3"] = web.status(500)
    fetch.run(edit(SMALL | {"fetch.sources": [*with_secrets, "source"]}), Paths())
    with pytest.raises(NoSourceError) as refusal:
        fetch.run(edit(SMALL | {"fetch.sources": with_secrets}), Paths())

    shown = capsys.readouterr().out + str(refusal.value)
    assert site.url in shown
    assert "hunter" not in shown


def test_a_source_that_asks_for_a_password_gets_it_from_netrc(
    edit: Edit, data: Data, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(site, data)
    expected = f"Basic {base64.b64encode(b'someone:hunter2').decode()}"
    site.answers = {path: web.to_whom(expected, answer) for path, answer in site.answers.items()}
    params = edit(SMALL | {"fetch.sources": [site.url]})
    with pytest.raises(NoSourceError, match="HTTP 401"):
        fetch.run(params, Paths())
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password hunter2\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    fetch.run(params, Paths())

    assert_equal(in_place(), data)
    assert "hunter2" not in capsys.readouterr().out


@pytest.mark.parametrize("fault", ["no source", "mismatch"])
def test_arrays_in_place_survive_a_failed_fetch(fault: str, edit: Edit, data: Data, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", data)
    paths = Paths()
    fetch.run(edit(SMALL), paths)
    before = contents(paths.raw)
    last = source / f"{NAMES['test_labels']}.gz"
    if fault == "no source":
        last.write_bytes(HTML)
    else:
        last.write_bytes(gzip.compress(idx(data["test"].labels[:-1])))

    with pytest.raises((NoSourceError, MismatchError)):
        fetch.run(edit(SMALL), paths)

    assert contents(paths.raw) == before
    assert [path.name for path in paths.raw.parent.iterdir()] == ["raw"]


def test_pinned_arrays_in_place_are_not_fetched_again(edit: Edit, data: Data, tmp_path: Path) -> None:
    write_source(tmp_path / "source", data)
    paths = Paths()
    fetch.run(edit(pinned(data)), paths)
    before = contents(paths.raw)

    result = fetch.run(edit({"fetch.sources": ["nowhere"]}), paths)

    assert result.endswith("already in data/raw")
    assert contents(paths.raw) == before


def test_a_damaged_array_in_place_is_fetched_again(edit: Edit, data: Data, tmp_path: Path) -> None:
    write_source(tmp_path / "source", data)
    paths = Paths()
    fetch.run(edit(pinned(data)), paths)
    with (paths.raw / "train_images.npy").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")

    result = fetch.run(edit(), paths)

    assert result.endswith("from source")
    assert_equal(in_place(), data)


def test_unpinned_arrays_are_fetched_again(edit: Edit, data: Data, tmp_path: Path) -> None:
    inverted = {name: Split(255 - split.images, split.labels) for name, split in data.items()}
    write_source(tmp_path / "source", data)
    fetch.run(edit(SMALL), Paths())
    write_source(tmp_path / "source", inverted)

    fetch.run(edit(), Paths())

    assert_equal(in_place(), inverted)


def test_the_hash_of_an_unpinned_file_is_printed(
    edit: Edit, data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_source(tmp_path / "source", data)

    fetch.run(edit(SMALL), Paths())

    printed = capsys.readouterr().out
    for key, name in NAMES.items():
        digest = hashlib.sha256(idx(array(data, key))).hexdigest()
        assert f"{name} is not pinned: its SHA-256 is {digest}" in printed


def test_the_manifest_does_not_depend_on_the_source(edit: Edit, data: Data, site: Site, tmp_path: Path) -> None:
    publish(site, data, suffix="")
    write_source(tmp_path / "elsewhere", data)
    written = []

    for source in (site.url, "elsewhere"):
        fetch.run(edit(SMALL | {"fetch.sources": [source]}), Paths())
        written.append(contents(Paths().raw))

    assert all(one == other for one, other in pairwise(written))
    manifest = json.loads(written[0]["manifest.json"])
    assert manifest["files"]["train_images"]["shape"] == [30, 28, 28]
    assert manifest["files"]["test_labels"]["sha256"] == hashlib.sha256(idx(data["test"].labels)).hexdigest()
    assert b"elsewhere" not in written[0]["manifest.json"]


def test_the_embedded_copy_is_mnist_and_can_be_memory_mapped(edit: Edit, mnist: Data) -> None:
    result = fetch.run(edit({"fetch.sources": [str(EMBEDDED)]}), Paths())

    assert result.startswith("60,000 training and 10,000 test images of 28x28")
    for key, name in NAMES.items():
        mapped = np.load(f"data/raw/{key}.npy", mmap_mode="r")
        assert isinstance(mapped, np.memmap)
        np.testing.assert_array_equal(mapped, from_idx(gzip.decompress((EMBEDDED / f"{name}.gz").read_bytes())), strict=True)


def test_different_numbers_of_images_and_labels_are_refused(edit: Edit, data: Data, tmp_path: Path) -> None:
    unequal = data | {"train": Split(data["train"].images, data["train"].labels[:-2])}
    write_source(tmp_path / "source", unequal)

    with pytest.raises(MismatchError, match="train split: expected a label for each image, found 30 images and 28 labels"):
        fetch.run(edit(SMALL), Paths())


def test_swapped_images_and_labels_are_reported(edit: Edit, data: Data, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", data)
    images, labels = (source / f"{NAMES[key]}.gz" for key in ("train_images", "train_labels"))
    images.rename(source / "aside")
    labels.rename(images)
    (source / "aside").rename(labels)

    with pytest.raises(
        NoSourceError, match=r"source: train-images\S+: expected images of 3 dimension\(s\), found labels of 1"
    ):
        fetch.run(edit(SMALL), Paths())


def run_stage(prelude: str = "") -> subprocess.CompletedProcess[str]:
    """Run the stage in a new process in the current folder, as DVC does, after the code `prelude`."""
    code = f"{prelude}\nimport runpy; runpy.run_module('pipeline.fetch', run_name='__main__', alter_sys=True)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], env=environment, check=False, capture_output=True, text=True)


def test_the_stage_prints_one_line_and_exits_with_0(edit: Edit, data: Data, tmp_path: Path) -> None:
    write_source(tmp_path / "source", data)
    edit(pinned(data))

    done = run_stage()

    assert done.returncode == 0
    assert done.stdout.startswith("fetch     30 training and 10 test images of 28x28, from source · ")
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


def test_an_unwritable_folder_gives_one_clear_error(edit: Edit, data: Data, tmp_path: Path) -> None:
    write_source(tmp_path / "source", data)
    edit(pinned(data))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "raw").write_text("a file where the folder should be")

    done = run_stage()

    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: data/raw: expected to read or write it, found: File exists.",
        "Complete files are unchanged. Move the existing file or folder away and rerun.",
    ]


def test_a_full_disk_gives_one_clear_error_and_leaves_no_part_file(edit: Edit, data: Data, tmp_path: Path) -> None:
    write_source(tmp_path / "source", data)
    edit(pinned(data))

    # Limit files to 10 kB: writing fails as on a full disk, for root too.
    done = run_stage("import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))")

    assert done.returncode == 1
    assert done.stderr.startswith("error: the disk: expected to read or write it, found: File too large.\nComplete files")
    assert len(done.stderr.splitlines()) == 2
    assert list((tmp_path / "data").rglob("*")) == [tmp_path / "data" / "raw"]
