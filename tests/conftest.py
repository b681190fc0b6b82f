"""Small real data, and a tree of its own for each test."""

import gzip
import os
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from ruamel.yaml import YAML

from pipeline import fetch
from pipeline.core import files
from pipeline.core import params as parameters
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data.datasets import Pixels, Split
from tests import web
from tests.imports import ROOT
from tests.web import Site

# A store or a repository that the person who runs the tests has set is none of the tests' business.
for variable in ("DVC_ROOT", "DVC_EXP_NAME", "MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI", "PIPELINE_DEBUG"):
    os.environ.pop(variable, None)

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


def forget_store() -> None:
    if mlflow := sys.modules.get("mlflow"):
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        os.environ.pop(variable, None)


@pytest.fixture(autouse=True)
def _own_store() -> Iterator[None]:
    """MLflow keeps the store that it was pointed at, in itself and in the environment, where the next test would find it.

    Forgotten before the test, for what wider fixtures left, and after it, for those that are made before the next.
    """
    forget_store()
    yield
    forget_store()


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


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A web site of the test's own."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with web.serving() as site:
        yield site


def write_source(folder: Path, data: dict[str, Split]) -> Path:
    """Write `data` as the four IDX files of a source, gzipped; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for key, name in NAMES.items():
        split, kind = key.split("_")
        (folder / f"{name}.gz").write_bytes(gzip.compress(idx(getattr(data[split], kind)), 1, mtime=0))
    return folder


def edit_params(path: Path, changes: dict[str, Any]) -> Params:
    """Change the params.yaml at `path` by dotted keys, and load it."""
    yaml = YAML()
    content: Any = yaml.load(path)
    for key, value in changes.items():
        *sections, last = key.split(".")
        section = content
        for name in sections:
            section = section[name]
        section[last] = value
    yaml.dump(content, path)
    return parameters.load(path)


Edit = Callable[..., Params]


@pytest.fixture
def edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Edit:
    """Stand in an empty tree that has the repository's params.yaml, and change it by dotted keys: `edit({"train.seed": 1})`.

    Returns the parameters as loaded from the changed file.
    """
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    return lambda changes=None: edit_params(Path("params.yaml"), changes or {})


# What the parameters must be for the subset: no pinned hashes, and bounds for its size.
SMALL = {
    "fetch.sources": ["source"],
    "fetch.files.train_images.sha256": None,
    "fetch.files.train_labels.sha256": None,
    "fetch.files.test_images.sha256": None,
    "fetch.files.test_labels.sha256": None,
    "validate.rows": {"train": [3000, 3000], "test": [1000, 1000]},
    "validate.class_share": [0.07, 0.14],
    "train.epochs": 2,
    "train.batch_size": 100,
    "train.warmup_epochs": 0,
    "train.learning_rate": 0.002,
    # After two epochs many decisions are narrow, and int8 arithmetic differs between processors with and without VNNI.
    "export.int8_agreement": 0.9,
    "promote.minimum.int8_agreement": 0.9,
}


@pytest.fixture
def tree(edit: Edit, subset: dict[str, Split], tmp_path: Path) -> Paths:
    """A tree, the current folder, whose params.yaml names a source with the subset in it."""
    write_source(tmp_path / "source", subset)
    edit(SMALL)
    return Paths()


@dataclass(frozen=True)
class Repository:
    """A tree somewhere else, in which stages run in this process."""

    params: Params
    paths: Paths


def small_repository(root: Path, subset: dict[str, Split], changes: dict[str, Any] | None = None) -> Repository:
    """A tree at `root` with the subset fetched, and `changes` in params.yaml."""
    source = write_source(root / "source", subset)
    shutil.copy(ROOT / "params.yaml", root / "params.yaml")
    params = edit_params(root / "params.yaml", {**SMALL, "fetch.sources": [str(source)], **(changes or {})})
    paths = Paths(root)
    fetch.run(params, paths)
    return Repository(params, paths)


def pass_validation(paths: Paths) -> None:
    """Open the gate, where Great Expectations is not what a test is about."""
    fingerprint = files.read_json(paths.manifest)["fingerprint"]
    files.write_json(paths.report, {"success": True, "fingerprint": fingerprint, "expectations": {"met": 1}, "broken": []})
    files.write_text(paths.data_docs / "index.html", "<p>none</p>")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, worker_id: str, subset: dict[str, Split]) -> Repository:
    """A tree in which every stage has run once on the subset, for all processes of a test run. Not to be changed: copy it."""
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent
    root, done = shared / "built", shared / "built.done"
    with FileLock(shared / "built.lock"):  # the first that asks builds it; it takes a while
        if not done.exists():
            root.mkdir(exist_ok=True)
            build(small_repository(root, subset))
            done.touch()
    return Repository(parameters.load(root / "params.yaml"), Paths(root))


def build(made: Repository) -> None:
    """Run every stage but fetch, which has run."""
    # Seconds, which most tests need not wait for. MLflow whole, before train imports it without what it can do without.
    import mlflow.onnx

    from pipeline import evaluate, explain, export, register, train

    assert mlflow.onnx
    pass_validation(made.paths)
    for stage in (train, export, evaluate, explain, register):
        stage.run(made.params, made.paths)


_LONGEST = ("test_retrain.py", "test_sweep.py", "test_pipeline.py", "test_team.py", "test_score.py", "test_promote.py")


def pytest_xdist_auto_num_workers() -> int:
    """One process more than processors: half of the time a test waits, for a server, a signal or a disk."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the test files that take the longest, so that the others fill the time on the other processors."""
    items.sort(key=lambda item: _LONGEST.index(item.path.name) if item.path.name in _LONGEST else len(_LONGEST))
