"""Reading unlabelled images for predict, drift and score."""

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.datasets import Pixels
from pipeline.serving import image_files
from pipeline.serving.errors import UnreadableImageError
from tests.conftest import idx

SHAPE = (4, 5)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, *SHAPE)).astype(np.uint8)


def write(path: Path, images: Pixels) -> Path:
    """Write `images` in the format of the file name."""
    if path.suffix == ".npy":
        np.save(path, images)
    elif path.suffix == ".npz":
        np.savez_compressed(path, images=images, more=images[:1])
    else:
        path.write_bytes(gzip.compress(idx(images)) if path.suffix == ".gz" else idx(images))
    return path


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a-idx3-ubyte", "a-idx3-ubyte.gz", "a.idx", "test-images.gz", "images"])
def test_every_array_format_is_read(name: str, tmp_path: Path) -> None:
    images = image_files.read(write(tmp_path / name, IMAGES), SHAPE)

    np.testing.assert_array_equal(images.pixels, IMAGES, strict=True)


def test_files_of_file_managers_are_left_out_of_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "a.npy", IMAGES)
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._a.npy"):
        (tmp_path / name).write_bytes(b"no images")

    np.testing.assert_array_equal(image_files.read_arrays(tmp_path, SHAPE), IMAGES)


def test_npy_and_plain_idx_files_are_memory_mapped(tmp_path: Path) -> None:
    for name in ("a.npy", "a-idx3-ubyte"):
        assert isinstance(image_files.read(write(tmp_path / name, IMAGES), SHAPE).pixels.base, np.memmap)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a-idx3-ubyte", "a-idx3-ubyte.gz"])
def test_a_truncated_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, IMAGES)
    content = path.read_bytes()

    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(UnreadableImageError, match=f"{name}: expected "):
            image_files.read(path, SHAPE)


@pytest.mark.parametrize("name", ["a.npz", "a-idx3-ubyte.gz"])
def test_a_small_file_that_would_decompress_beyond_the_limit_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_files, "_MOST_BYTES", 1000)
    path = write(tmp_path / name, np.zeros((100_000, *SHAPE), np.uint8))

    assert path.stat().st_size < 10_000
    with pytest.raises(
        UnreadableImageError, match=r"expected .*at most 1,000 bytes.*, found a header that announces 2,000,000"
    ):
        image_files.read(path, SHAPE)


NPY = (stream := io.BytesIO(), np.save(stream, IMAGES), stream.getvalue())[2]


@pytest.mark.filterwarnings("ignore")  # from the Python parser, about damaged headers
@settings(deadline=None, max_examples=100, derandomize=True)
@given(
    edits=st.lists(st.tuples(st.integers(0, len(NPY) - 1), st.integers(0, 255)), min_size=1, max_size=4),
    in_archive=st.booleans(),
)
def test_a_damaged_npy_header_is_either_readable_or_refused(
    edits: list[tuple[int, int]], in_archive: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(NPY)
    for position, byte in edits:
        content[position] = byte
    path = tmp_path_factory.mktemp("damaged") / ("a.npz" if in_archive else "a.npy")
    if in_archive:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", bytes(content))
    else:
        path.write_bytes(content)

    try:
        images = image_files.read(path, SHAPE)
    except UnreadableImageError:
        return
    assert images.pixels.dtype == np.uint8
    assert images.pixels.shape[1:] == SHAPE
