"""Fixtures: a subset of MNIST, and a separate tree for each test."""

import gzip
import os
import shutil
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis  # noqa: F401 - it chooses its profile by CI, which is removed below
import numpy as np
import pytest
from filelock import FileLock
from ruamel.yaml import YAML

from pipeline import fetch
from pipeline.core import environment, files
from pipeline.core import params as parameters
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data.datasets import Pixels, Split
from tests import web
from tests.imports import ROOT
from tests.web import Site

# Tests must not use the store or the repository of the user who runs them. In CI, a first promotion asks for FIRST=1.
for variable in ("CI", "DVC_ROOT", "DVC_EXP_NAME", "MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI", "PIPELINE_DEBUG"):
    os.environ.pop(variable, None)

# The tests train for a second or two, so XLA should compile fast rather than well, here and in child processes.
os.environ[environment.XLA_FLAGS] = "--xla_backend_optimization_level=0"
environment.pin()
os.environ["TF_NUM_INTRAOP_THREADS"] = "2"  # as in params.yaml, also where a test uses TensorFlow before a stage sets it

EMBEDDED = ROOT / "data" / "embedded"
NAMES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


def idx(array: Pixels) -> bytes:
    """Encode a uint8 array as an IDX file."""
    return struct.pack(f">HBB{array.ndim}I", 0, 0x08, array.ndim, *array.shape) + array.tobytes()


def from_idx(content: bytes) -> Pixels:
    """Decode an IDX file of uint8, independently of the pipeline's decoder."""
    dimensions = content[3]
    shape = struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions])
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def forget_store() -> None:
    if mlflow := sys.modules.get("mlflow"):
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)
    if service := sys.modules.get("mlflow.tracking._tracking_service.utils"):
        service._artifact_repos_cache.clear()  # cached by run: a copied store would write to the artifacts of the original
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        os.environ.pop(variable, None)


@pytest.fixture(autouse=True)
def _own_store() -> Iterator[None]:
    """Reset the store in MLflow's globals and in the environment, so that no test uses another test's store.

    Before the test, because fixtures of a wider scope may have set it; after it, because those of the next test run earlier.
    """
    forget_store()
    yield
    forget_store()


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """Restore the signal handlers: a stage that ran in this process ignores signals at its end, and children inherit that."""
    signums = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = [signal.getsignal(signum) for signum in signums]
    yield
    signal.set_wakeup_fd(-1)
    for signum, handler in zip(signums, handlers, strict=True):
        signal.signal(signum, handler)


@pytest.fixture(scope="session")
def mnist() -> dict[str, Split]:
    """All of MNIST by split, decoded independently of the pipeline."""
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
    """A web site for this test alone."""
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
    """Change to an empty tree with the repository's params.yaml; return a function that edits it: `edit({"train.seed": 1})`.

    The function loads the changed file and returns its parameters.
    """
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    return lambda changes=None: edit_params(Path("params.yaml"), changes or {})


# Parameters for the subset: no pinned hashes, and bounds for its size.
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
}


@pytest.fixture
def tree(edit: Edit, subset: dict[str, Split], tmp_path: Path) -> Paths:
    """The current folder as a tree, with the subset as the source in its params.yaml."""
    write_source(tmp_path / "source", subset)
    edit(SMALL)
    return Paths()


@dataclass(frozen=True)
class Repository:
    """A tree outside the current folder; tests run stages on it in this process."""

    params: Params
    paths: Paths


def small_repository(root: Path, subset: dict[str, Split], changes: dict[str, Any] | None = None) -> Repository:
    """Create a tree at `root` with `changes` in params.yaml, and fetch the subset."""
    source = write_source(root / "source", subset)
    shutil.copy(ROOT / "params.yaml", root / "params.yaml")
    params = edit_params(root / "params.yaml", {**SMALL, "fetch.sources": [str(source)], **(changes or {})})
    paths = Paths(root)
    fetch.run(params, paths)
    return Repository(params, paths)


def pass_validation(paths: Paths) -> None:
    """Write a validation report that passes, for tests that do not validate."""
    fingerprint = files.read_json(paths.manifest)["fingerprint"]
    files.write_json(paths.report, {"success": True, "fingerprint": fingerprint, "expectations": {"met": 1}, "broken": []})
    files.write_text(paths.report_page, "<p>none</p>")
    files.write_text(paths.data_docs / "index.html", "<p>none</p>")


@pytest.fixture
def without_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the pages of the Data Docs, which take nearly half of the time of validate."""
    from great_expectations.data_context import AbstractDataContext

    from pipeline.validation import data_docs

    monkeypatch.setattr(AbstractDataContext, "build_data_docs", lambda _: None)
    monkeypatch.setattr(data_docs, "finish", lambda *_: None)


Once = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Once:
    """`once(name, fill)` returns a folder that `fill` fills once for all processes of a test run."""
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent

    def once(name: str, fill: Callable[[Path], None]) -> Path:
        root, done = shared / name, shared / f"{name}.done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                root.mkdir(exist_ok=True)
                fill(root)
                done.touch()
        return root

    return once


@pytest.fixture(scope="session")
def empty_store(once: Once) -> Path:
    """The SQLite file of an empty MLflow store. Copy it, because MLflow needs 2.4 s of processor time to create one."""
    return once("store", make_store) / "mlflow.db"


def make_store(folder: Path) -> None:
    import sqlalchemy
    from mlflow.store.db import utils

    engine = sqlalchemy.create_engine(f"sqlite:///{folder}/mlflow.db")
    utils._initialize_tables(engine)
    engine.dispose()


@pytest.fixture(scope="session")
def built(once: Once, subset: dict[str, Split]) -> Repository:
    """A tree in which every stage has run once on the subset. Copy it before you change it: all processes share it."""
    root = once("built", lambda root: build(small_repository(root, subset)))
    return Repository(parameters.load(root / "params.yaml"), Paths(root))


def build(repository: Repository, *, registered: bool = True) -> None:
    """Run the stages after validate, with a report that passes."""
    # These imports take seconds. Import MLflow first and as a whole, because train imports only a part of it.
    import mlflow.onnx

    from pipeline import evaluate, explain, export, register, train

    assert mlflow.onnx
    pass_validation(repository.paths)
    for stage in (train, export, evaluate, explain, *([register] if registered else [])):
        stage.run(repository.params, repository.paths)


_LONGEST = (
    "test_retrain.py",
    "test_validate.py",
    "test_pipeline.py",
    "test_ui.py",
    "test_state.py",
    "test_label.py",
    "test_explore.py",
    "test_fit.py",
    "test_security.py",
    "test_team.py",
    "test_dvc.py",
    "test_store.py",
    "test_runs.py",
    "test_drift.py",
    "test_predict.py",
    "test_pull.py",
    "test_promote.py",
    "test_adopt.py",
    "test_runbook.py",
    "test_serve.py",
    "test_kills.py",
)


def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores, because tests wait for servers, signals and disks."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the test files that take longest, so that the processes end at about the same time."""
    items.sort(key=lambda item: _LONGEST.index(item.path.name) if item.path.name in _LONGEST else len(_LONGEST))
