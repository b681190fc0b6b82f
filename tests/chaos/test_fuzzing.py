"""Feed any bytes to the readers of foreign files: each input is read correctly or refused with a clear error.

The fuzzer is guided by coverage: https://github.com/google/atheris, on libFuzzer. A crash, a hang of ten seconds, or 2 GB of
memory ends its process, and the test prints the input.
"""

import gzip
import importlib.util
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import conftest
from tests.chaos.conftest import Chaos
from tests.imports import ROOT
from tests.inference import test_onnx_model

KIND = "Fuzzing"
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 4, 5)).astype(np.uint8)
LABELS = np.array([1, 0, 2], np.uint8)
LIMITS = ["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1", "-seed=1", "-len_control=0"]
LENGTH = {"idx": 1024, "params": 200, "onnx": 2048, "images": 2048}  # bytes; longer inputs are slower and find nothing more
FEED = {
    "idx": "IDX files, plain, gzipped, and gzipped then damaged",
    "params": "params.yaml: text, sections with other text, other values",
    "onnx": "ONNX files, and models with other fields",
    "images": "images and arrays given to predict",
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory if possible, because the disk is not under test."""
    memory = Path("/dev/shm")  # noqa: S108 - for inputs only
    with tempfile.TemporaryDirectory(prefix="fuzzing-", dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


def _image(kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    pixels = np.zeros((12, 9), np.uint8)
    pixels[3:8, 4:6] = 200
    Image.fromarray(pixels).convert(str(options.pop("mode", "L"))).save(stream, kind, **options)
    return stream.getvalue()


def _array(save: object, *given: object, **named: object) -> bytes:
    stream = io.BytesIO()
    save(stream, *given, **named)  # type: ignore[operator]
    return stream.getvalue()


def seeds(target: str, folder: Path) -> list[bytes]:
    """Valid inputs to start from; the first byte is the form."""
    images, labels = conftest.idx(IMAGES), conftest.idx(LABELS)
    if target == "idx":
        edit = bytes(range(8))
        found = [b"\0" + images, b"\1" + labels, b"\2" + images, b"\3" + labels, b"\4" + edit + images]
        return [*found, b"\0" + gzip.compress(images), b"\1" + gzip.compress(labels)]
    if target == "params":
        sections = re.split(rb"\n(?=[a-z])", (ROOT / "params.yaml").read_bytes())[1:]
        short = [b"\0" + section[:300] for section in sections]
        return [*short, b"\0a: &a [1]\nb: {<<: {c: *a}}", b"\0? !!int 1\n: 2001-01-01", *(bytes([n % 3]) * 40 for n in (1, 2))]
    if target == "onnx":
        layers = [test_onnx_model.random_layer(20, 4, "Relu", 1), test_onnx_model.random_layer(4, 3, "Softmax", 2)]
        path = test_onnx_model.write_network(folder / "seed.onnx", layers, test_onnx_model.SIZE)
        return [b"\0" + path.read_bytes(), *(b"\1" + np.random.default_rng(n).bytes(60) for n in range(20))]
    kinds = [("PNG", 0), ("PNG", 16), ("JPEG", 0), ("BMP", 0), ("TIFF", 5), ("GIF", 0), ("PPM", 0), ("WEBP", 0)]
    found = [bytes([form]) + _image(kind) for kind, form in kinds]
    found += [b"\x10" + _image("PNG", mode=mode) for mode in ("1", "P", "LA", "RGBA", "I;16")]
    found += [b"\5" + _image("TIFF", compression=name) for name in ("tiff_lzw", "tiff_deflate", "packbits")]
    npy = _array(np.save, IMAGES)
    found += [b"\x09" + npy, b"\x0e" + npy, b"\x1e" + npy, b"\x0a" + _array(np.savez, images=IMAGES, labels=LABELS)]
    found += [b"\x0a" + _array(np.savez_compressed, IMAGES), b"\x0b" + images, b"\x0c" + gzip.compress(images)]
    return [*found, b"\x0f" + images]


@pytest.mark.skipif(
    not importlib.util.find_spec("atheris"), reason="no atheris is installed (make chaos installs it, on Linux)"
)
@pytest.mark.parametrize("target", FEED)
def test_any_bytes_are_read_or_refused_with_a_clear_error(target: str, folder: Path, tmp_path: Path, chaos: Chaos) -> None:
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds(target, folder)):
        (corpus / str(number)).write_bytes(seed)
    runs = chaos.tries(500, 1_000_000)
    command = [
        sys.executable,
        "-m",
        "tests.chaos.fuzzers",
        target,
        str(folder),
        f"-runs={runs}",
        *LIMITS,
        f"-max_len={LENGTH[target]}",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    with (tmp_path / "log").open("wb") as log:
        command += [f"-artifact_prefix={folder}/", str(corpus)]
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=log, check=False)

    log_text = (tmp_path / "log").read_bytes()[-5000:].decode(errors="replace")  # libtiff logs a lot
    inputs = [path.read_bytes() for path in folder.iterdir() if path.name.startswith(("crash-", "timeout-", "oom-", "leak-"))]
    assert done.returncode == 0, f"{inputs}\n{log_text}"
    executed = int(re.findall(r"number_of_executed_units: (\d+)", log_text)[-1])
    assert executed >= runs
    chaos.count(KIND, FEED[target], executed, executed)
