"""Small real data, and a tree of its own for each test."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline.core import params as parameters
from pipeline.core.datasets import Pixels, Split
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from tests.imports import ROOT

EMBEDDED = ROOT / "data" / "embedded"
NAMES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


def idx(array: Pixels) -> bytes:
    """The IDX file of a uint8 array."""
    return struct.pack(f">HBB{array.ndim}I", 0, 0x08, array.ndim, *array.shape) + array.tobytes()


def from_idx(content: bytes) -> Pixels:
    """The array of an IDX file of uint8: a decoder apart from the pipeline's."""
    dimensions = content[3]
    shape = struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions])
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


@pytest.fixture(scope="session")
def mnist() -> dict[str, Split]:
    """The whole of MNIST, by split, decoded apart from the pipeline."""
    arrays = {key: from_idx(gzip.decompress((EMBEDDED / f"{name}.gz").read_bytes())) for key, name in NAMES.items()}
    return {split: Split(arrays[f"{split}_images"], arrays[f"{split}_labels"]) for split in ("train", "test")}


@pytest.fixture(scope="session")
def subset(mnist: dict[str, Split]) -> dict[str, Split]:
    """The first 3,000 training and 1,000 test images."""
    return {
        split: Split(mnist[split].images[:count], mnist[split].labels[:count])
        for split, count in (("train", 3000), ("test", 1000))
    }


def write_source(folder: Path, data: dict[str, Split]) -> Path:
    """Write `data` as the four IDX files of a source, gzipped; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for key, name in NAMES.items():
        split, kind = key.split("_")
        (folder / f"{name}.gz").write_bytes(gzip.compress(idx(getattr(data[split], kind)), 1, mtime=0))
    return folder


Edit = Callable[..., Params]


@pytest.fixture
def edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Edit:
    """Stand in an empty tree that has the repository's params.yaml, and change it by dotted keys: `edit({"train.seed": 1})`.

    Returns the parameters as loaded from the changed file.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yaml = YAML()
    content: Any = yaml.load(ROOT / "params.yaml")

    def change(changes: dict[str, Any] | None = None) -> Params:
        for key, value in (changes or {}).items():
            *sections, last = key.split(".")
            section = content
            for name in sections:
                section = section[name]
            section[last] = value
        yaml.dump(content, tmp_path / "params.yaml")
        return parameters.load(tmp_path / "params.yaml")

    change()
    return change


# What the parameters must be for the subset: no pinned hashes, and bounds for its size.
SMALL = {
    "fetch.sources": ["source"],
    "fetch.files.train_images.sha256": None,
    "fetch.files.train_labels.sha256": None,
    "fetch.files.test_images.sha256": None,
    "fetch.files.test_labels.sha256": None,
    "validate.rows": {"train": [3000, 3000], "test": [1000, 1000]},
    "train.epochs": 2,
    "train.batch_size": 100,
    "train.warmup_epochs": 0,
    "train.learning_rate": 0.002,
}


@pytest.fixture
def tree(edit: Edit, subset: dict[str, Split], tmp_path: Path) -> Paths:
    """A tree, the current folder, whose params.yaml names a source with the subset in it."""
    write_source(tmp_path / "source", subset)
    edit(SMALL)
    return Paths()
