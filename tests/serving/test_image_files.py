"""What predict, drift and score are given to read."""

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
    """Write the kind of file that the name says."""
    if path.suffix == ".npy":
        np.save(path, images)
    elif path.suffix == ".npz":
        np.savez_compressed(path, images=images, more=images[:1])
    else:
        path.write_bytes(gzip.compress(idx(images)) if path.suffix == ".gz" else idx(images))
    return path


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a-idx3-ubyte", "a-idx3-ubyte.gz", "a.idx"])
def test_each_kind_of_file_gives_its_images(name: str, tmp_path: Path) -> None:
    found = image_files.read(write(tmp_path / name, IMAGES), SHAPE)

    np.testing.assert_array_equal(found.pixels, IMAGES, strict=True)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a-idx3-ubyte", "a-idx3-ubyte.gz"])
def test_a_file_that_is_cut_short_is_refused_by_name(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, IMAGES)
    whole = path.read_bytes()

    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(UnreadableImageError, match=f"{name}: expected "):
            image_files.read(path, SHAPE)


@pytest.mark.parametrize("name", ["a.npz", "a-idx3-ubyte.gz"])
def test_a_small_file_that_would_fill_the_memory_is_refused(
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


@pytest.mark.filterwarnings("ignore")  # of the Python parser, on what a header may become
@settings(deadline=None, max_examples=100, derandomize=True)
@given(
    edits=st.lists(st.tuples(st.integers(0, len(NPY) - 1), st.integers(0, 255)), min_size=1, max_size=4), zipped=st.booleans()
)
def test_a_damaged_npy_header_gives_images_or_is_refused(
    edits: list[tuple[int, int]], zipped: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(NPY)
    for position, byte in edits:
        content[position] = byte
    path = tmp_path_factory.mktemp("damaged") / ("a.npz" if zipped else "a.npy")
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", bytes(content))
    else:
        path.write_bytes(content)

    try:
        found = image_files.read(path, SHAPE)
    except UnreadableImageError:
        return
    assert found.pixels.dtype == np.uint8
    assert found.pixels.shape[1:] == SHAPE
