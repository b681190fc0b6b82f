"""Batch prediction: every image of every file format is predicted once, also after a kill, here and on Ray."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pyarrow import Table, parquet

from pipeline import score
from pipeline.core import files, params
from pipeline.core.paths import Paths
from pipeline.data.datasets import Pixels, Split
from pipeline.distributed.blocks import read_block, split_into_blocks
from pipeline.distributed.errors import OutputFolderError
from pipeline.inference.onnx_model import OnnxModel
from pipeline.serving.errors import UnreadableImageError
from tests.chaos.conftest import LONG
from tests.conftest import Repository, idx
from tests.imports import ROOT
from tests.ingestion.writers import png


def write_parquet(path: Path, images: Pixels, rows: int) -> None:
    table = Table.from_pydict({"image": [image.tobytes() for image in images], "other": list(range(len(images)))})
    parquet.write_table(table, path, row_group_size=rows)


@pytest.fixture
def source(tmp_path: Path, subset: dict[str, Split]) -> tuple[Path, Pixels]:
    """The test images in files of every format, and as an array in the order of the file names."""
    folder, images = tmp_path / "source", subset["test"].images
    folder.mkdir()
    np.save(folder / "a.npy", images[:300])
    (folder / "b-ubyte").write_bytes(idx(images[300:500]))
    (folder / ".DS_Store").write_bytes(b"left by a file manager")
    np.savez_compressed(folder / "c.npz", images=images[500:600])
    write_parquet(folder / "d.parquet", images[600:], 150)
    return folder, images


@pytest.fixture
def tree(built: Repository, tmp_path: Path) -> Paths:
    root = tmp_path / "tree"
    shutil.copytree(built.paths.root, root, ignore=shutil.ignore_patterns("mlruns", "source"))
    return Paths(root)


def start_score(tree: Paths, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "pipeline.score", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=tree.root, env=environment, text=True, start_new_session=True, **pipes)


def run_score(tree: Paths, *arguments: str) -> tuple[int, str, str]:
    process = start_score(tree, *arguments)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def predictions(folder: Path) -> Table:
    return parquet.read_table([str(path) for path in sorted(folder.glob("[!.]*.parquet"))])


def test_every_image_of_every_format_is_predicted_once_like_by_the_model(
    source: tuple[Path, Pixels], tree: Paths, tmp_path: Path
) -> None:
    folder, images = source
    code, printed, error = run_score(tree, str(folder), "--out", str(tmp_path / "out"))

    assert code == 0, error
    table = predictions(tmp_path / "out")
    expected = OnnxModel(tree.onnx, threads=1).predict(images)
    np.testing.assert_allclose(np.array(table["probabilities"].to_pylist()), expected, rtol=0, atol=1e-6)
    assert table["label"].to_pylist() == [str(digit) for digit in expected.argmax(axis=1)]
    assert table["row"].to_pylist() == [*range(300), *range(200), *range(100), *range(400)]
    assert "1,000 images in 6 file(s)" in printed
    assert "ok      confidence" in printed
    assert "outside" not in printed
    assert "score     left out .DS_Store, which holds no data" in printed


def score_here(tree: Paths, source: Path, out: Path) -> int:
    """Run the verb in this process."""
    options = argparse.Namespace(source=source, out=out, model=None, ray=False)
    return score.run(options, params.load(tree.params), tree)


@pytest.mark.skipif(not LONG, reason="starts Ray")
def test_ray_writes_the_same_files(source: tuple[Path, Pixels], tree: Paths, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (make .venv/.sweep)")
    folder, _ = source

    code, _, error = run_score(tree, str(folder), "--ray", "--out", str(tmp_path / "ray"))

    assert code == 0, error
    assert score_here(tree, folder, tmp_path / "threads") == 0
    assert contents(tmp_path / "ray") == contents(tmp_path / "threads")


@pytest.mark.skipif(not LONG, reason="starts Ray once more")
def test_the_file_that_a_task_of_ray_cannot_read_is_named(tree: Paths, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (make .venv/.sweep)")
    damaged = tmp_path / "damaged.parquet"
    parquet.write_table(Table.from_pydict({"image": [b"other", b"sizes"]}), damaged)
    code, _, error = run_score(tree, str(damaged), "--ray", "--out", str(tmp_path / "none"))
    assert code == 1
    assert "damaged.parquet: expected 784 bytes per image, or image files of 28x28, found 5 bytes that are neither" in error
    assert "RayTaskError" not in error


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_existing_predictions_are_kept_and_other_images_are_refused(
    source: tuple[Path, Pixels], tree: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, images = source
    assert score_here(tree, folder, tmp_path / "out") == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.parquet")}

    assert score_here(tree, folder, tmp_path / "out") == 0

    assert "1,000 images are done already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.parquet")} == before
    np.save(tmp_path / "other.npy", 255 - images)
    with pytest.raises(OutputFolderError, match="expected a new folder, or predictions for these images by this model"):
        score_here(tree, tmp_path / "other.npy", tmp_path / "out")


def test_images_unlike_the_training_data_are_reported(
    source: tuple[Path, Pixels], tree: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "inverted.npy", 255 - source[1])

    assert score_here(tree, tmp_path / "inverted.npy", tmp_path / "out") == 0

    printed = capsys.readouterr().out
    assert "ink_fraction: 1,000 images are outside" in printed
    assert "drift   ink_fraction" in printed
    assert files.read_json(tmp_path / "out" / "checks.json")["out_of_bounds"]["ink_fraction"] == 1000


def test_after_a_kill_the_same_command_predicts_the_remaining_images(
    tree: Paths, subset: dict[str, Split], tmp_path: Path
) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    images = np.concatenate([subset["train"].images] * 8)
    for number in range(24):
        np.save(source / f"{number:02d}.npy", images[1000 * number : 1000 * (number + 1)])
    process = start_score(tree, str(source), "--out", str(out))
    while len(list(out.glob("[!.]*.parquet"))) < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    written = len(list(out.glob("[!.]*.parquet")))

    code, printed, error = run_score(tree, str(source), "--out", str(out))

    assert code == 0, error
    assert f"{1000 * written:,} images are done already" in printed
    table = predictions(out)
    assert table.num_rows == len(images)
    np.testing.assert_array_equal(table["predicted_class"].to_numpy(), OnnxModel(tree.onnx).predict(images).argmax(axis=1))


def test_large_files_are_split_into_blocks_that_can_be_read_independently(source: tuple[Path, Pixels]) -> None:
    folder, images = source

    blocks = split_into_blocks(folder, 90, (28, 28))

    assert [block.stop - block.start for block in blocks if block.name == "a.npy"] == [90, 90, 90, 30]
    assert [block.stop - block.start for block in blocks if block.name == "d.parquet"] == [150, 150, 100]
    np.testing.assert_array_equal(np.concatenate([read_block(block, (28, 28)) for block in blocks]), images)
    assert len({block.key for block in blocks}) == len(blocks)


@pytest.mark.parametrize("form", ["struct of bytes and path", "bytes of image files", "in another column"])
def test_image_files_in_parquet_are_read(form: str, source: tuple[Path, Pixels], tmp_path: Path) -> None:
    images = source[1][:20]
    contents = [png(image) for image in images]
    values = [{"bytes": content, "path": None} for content in contents] if form.startswith("struct") else contents
    name = "photo" if form == "in another column" else "image"
    parquet.write_table(Table.from_pydict({"label": list(range(20)), name: values}), tmp_path / "hub.parquet")

    (block,) = split_into_blocks(tmp_path / "hub.parquet", 10, (28, 28))

    np.testing.assert_array_equal(read_block(block, (28, 28)), images)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.npy", b"no array", "an npy file"),
        ("a.parquet", b"no table", "a Parquet file"),
        ("a-ubyte", b"\0\0\x08\x03" + b"\0" * 12, "an IDX file|at least one element"),
    ],
)
def test_a_file_without_images_is_named_in_the_error(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(UnreadableImageError, match=f"{name}: expected ({expected})"):
        split_into_blocks(tmp_path, 10, (28, 28))


def test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 5, 5), np.uint8))
    write_parquet(tmp_path / "b.parquet", np.zeros((3, 5, 5), np.uint8), 3)

    with pytest.raises(UnreadableImageError, match=r"a.npy: expected uint8 \(n, 28, 28\), found uint8 \(3, 5, 5\)"):
        split_into_blocks(tmp_path / "a.npy", 10, (28, 28))
    (block,) = split_into_blocks(tmp_path / "b.parquet", 10, (28, 28))
    with pytest.raises(UnreadableImageError, match="expected 784 bytes per image"):
        read_block(block, (28, 28))
