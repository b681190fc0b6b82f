import hashlib
import json
import math
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.core import files
from pipeline.core.errors import MissingInputError, UnusableInputError


def test_a_file_is_replaced_when_the_block_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("old")

    with files.replacing(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"

    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_folder_of_a_new_file_is_made(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a" / "b" / "c.txt", "text")

    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "text"


def test_a_file_is_on_the_disk_before_it_takes_its_place_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a machine that loses its power may find the name and not the content."""
    done: list[tuple[str, str]] = []

    def noted(name: str, of: Callable[[Any], str]) -> None:
        act = getattr(os, name)

        def noting(*arguments: Any) -> None:
            done.append((name, of(arguments[0])))
            act(*arguments)

        monkeypatch.setattr(os, name, noting)

    noted("fsync", lambda descriptor: os.readlink(f"/proc/self/fd/{descriptor}"))
    noted("replace", str)

    with files.replacing(tmp_path / "model.onnx") as part:
        part.write_text("new")

    assert done == [("fsync", str(part)), ("replace", str(part)), ("fsync", str(tmp_path))]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_keeps_the_old_file_and_leaves_no_part(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("old")

    def fail_half_way() -> None:
        with files.replacing(path) as part:
            part.write_text("half")
            raise error

    with pytest.raises(error):
        fail_half_way()

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("old")

    with pytest.raises(FileNotFoundError), files.replacing(path):
        pass

    assert path.read_text() == "old"


def test_the_part_stands_beside_the_file_with_its_suffix(tmp_path: Path) -> None:
    with files.replacing(tmp_path / "model.int8.onnx") as part:
        part.touch()

    assert part.parent == tmp_path
    assert part.suffix == ".onnx"


def test_a_folder_is_replaced_with_all_that_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "plots"
    files.write_text(path / "old.png", "old")

    with files.replacing_folder(path) as part:
        files.write_text(part / "pictures" / "new.png", "new")
        assert [found.name for found in path.iterdir()] == ["old.png"]

    assert [found.relative_to(path).as_posix() for found in path.rglob("*.png")] == ["pictures/new.png"]
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_keeps_the_old_folder_and_leaves_no_part(tmp_path: Path) -> None:
    path = tmp_path / "plots"
    files.write_text(path / "old.png", "old")

    def fail_half_way() -> None:
        with files.replacing_folder(path) as part:
            files.write_text(part / "new.png", "half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()

    assert (path / "old.png").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_where_a_folder_is_to_be_stays(tmp_path: Path) -> None:
    path = tmp_path / "plots"
    path.write_text("a file")

    with pytest.raises(NotADirectoryError) as refusal, files.replacing_folder(path) as part:
        files.write_text(part / "new.png", "new")

    assert refusal.value.filename == str(path)
    assert path.read_text() == "a file"


def test_parts_of_processes_that_are_gone_are_discarded_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    left = [tmp_path / name for name in (f"raw/.images.{gone.pid}.part.npy", f".model.{gone.pid}.part.int8.onnx")]
    living = [tmp_path / name for name in (f".model.{os.getppid()}.part.onnx", "a.1.part", ".hidden", "model.onnx")]
    for path in (*left, *living, tmp_path / f".plots.{gone.pid}.part" / "deep" / "picture.png"):
        files.write_text(path, "text")

    files.discard_parts(tmp_path)

    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(living)
    assert not (tmp_path / f".plots.{gone.pid}.part").exists()


def test_parts_of_a_process_that_ended_and_whose_parent_has_not_asked_are_discarded(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # as in a container, where nobody asks after orphans
        files.write_text(tmp_path / f".model.{ended.pid}.part.onnx", "text")

        files.discard_parts(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_json_is_the_same_bytes_each_time_and_ends_with_a_newline(tmp_path: Path) -> None:
    path = tmp_path / "report.json"

    files.write_json(path, {"b": [1, 2.5], "a": "é"})

    assert path.read_bytes() == '{\n  "b": [\n    1,\n    2.5\n  ],\n  "a": "é"\n}\n'.encode()
    assert files.read_json(path) == {"b": [1, 2.5], "a": "é"}


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_json_refuses_what_is_no_number_and_keeps_the_old_file(number: float, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    files.write_json(path, {"accuracy": 1})

    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"accuracy": number})

    assert json.loads(path.read_text()) == {"accuracy": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("read", [files.read_json, files.require, files.sha256])
def test_a_missing_file_is_named(read: Any, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError) as refusal:
        read(tmp_path / "report.json")

    assert str(refusal.value) == (
        f"{tmp_path / 'report.json'}: expected this file from an earlier stage, found none.\n"
        "Nothing was written. `dvc repro` creates it."
    )


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "Expecting value in line 1"),
        (b'{\n  "a": 1', "Expecting ',' delimiter in line 2"),
        (b'{"a": "\xff"}', "bytes that are not text"),
    ],
)
def test_a_file_that_is_not_json_is_refused(content: bytes, found: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)

    with pytest.raises(UnusableInputError) as refusal:
        files.read_json(path)

    assert str(refusal.value).startswith(f"{path}: expected JSON, found {found}: it changed after it was written.")


def test_a_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 1000
    (tmp_path / "file").write_bytes(content)

    assert files.sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()
