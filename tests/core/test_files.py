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


def test_a_file_is_replaced_when_the_block_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("old")

    with files.replacing(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"

    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_folder_of_a_new_file_is_created(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a" / "b" / "c.txt", "text")

    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "text"


def test_a_file_is_synced_before_the_rename_and_its_folder_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise, a power failure may leave the new name without the content."""
    calls: list[tuple[str, str]] = []

    def record(name: str, describe: Callable[[Any], str]) -> None:
        call = getattr(os, name)

        def recording(*arguments: Any) -> None:
            calls.append((name, describe(arguments[0])))
            call(*arguments)

        monkeypatch.setattr(os, name, recording)

    record("fsync", lambda descriptor: str(os.fstat(descriptor).st_ino))
    record("replace", str)

    with files.replacing(tmp_path / "model.onnx") as part:
        part.write_text("new")

    inode, folder = (str(path.stat().st_ino) for path in (tmp_path / "model.onnx", tmp_path))
    assert calls == [("fsync", inode), ("replace", str(part)), ("fsync", folder)]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_keeps_the_old_file_and_removes_the_part_file(error: type[BaseException], tmp_path: Path) -> None:
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


def test_the_part_file_has_the_folder_and_suffix_of_the_file(tmp_path: Path) -> None:
    with files.replacing(tmp_path / "model.int8.onnx") as part:
        part.touch()

    assert part.parent == tmp_path
    assert part.suffix == ".onnx"


def test_a_folder_is_replaced_with_all_its_content(tmp_path: Path) -> None:
    path = tmp_path / "plots"
    files.write_text(path / "old.png", "old")

    with files.replacing_folder(path) as part:
        files.write_text(part / "pictures" / "new.png", "new")
        assert [found.name for found in path.iterdir()] == ["old.png"]

    assert [found.relative_to(path).as_posix() for found in path.rglob("*.png")] == ["pictures/new.png"]
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_keeps_the_old_folder_and_removes_the_part_folder(tmp_path: Path) -> None:
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


def test_a_file_is_not_replaced_by_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "plots"
    path.write_text("a file")

    with pytest.raises(NotADirectoryError) as refusal, files.replacing_folder(path) as part:
        files.write_text(part / "new.png", "new")

    assert refusal.value.filename == str(path)
    assert path.read_text() == "a file"


def test_part_files_of_dead_processes_are_removed_and_others_are_kept(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as dead:
        pass
    leftovers = [tmp_path / name for name in (f"raw/.images.{dead.pid}.part.npy", f".model.{dead.pid}.part.int8.onnx")]
    kept = [tmp_path / name for name in (f".model.{os.getppid()}.part.onnx", "a.1.part", ".hidden", "model.onnx")]
    for path in (*leftovers, *kept, tmp_path / f".plots.{dead.pid}.part" / "deep" / "picture.png"):
        files.write_text(path, "text")

    files.discard_parts(tmp_path)

    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)
    assert not (tmp_path / f".plots.{dead.pid}.part").exists()


def test_part_files_of_a_zombie_are_removed(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # a zombie, as in a container without init
        files.write_text(tmp_path / f".model.{ended.pid}.part.onnx", "text")

        files.discard_parts(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_json_is_written_as_the_same_bytes_and_ends_with_a_newline(tmp_path: Path) -> None:
    path = tmp_path / "report.json"

    files.write_json(path, {"b": [1, 2.5], "a": "é"})

    assert path.read_bytes() == '{\n  "b": [\n    1,\n    2.5\n  ],\n  "a": "é"\n}\n'.encode()
    assert files.read_json(path) == {"b": [1, 2.5], "a": "é"}


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_json_refuses_nan_and_infinity_and_keeps_the_old_file(number: float, tmp_path: Path) -> None:
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


def test_the_hash_of_a_file_is_the_sha256_of_its_content(tmp_path: Path) -> None:
    content = bytes(range(256)) * 1000
    (tmp_path / "file").write_bytes(content)

    assert files.sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()
