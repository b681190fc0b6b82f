"""A tree and a store with two champions, small enough for tests of every state, and what people do to them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import mlflow.cli
import pytest
from click.testing import CliRunner

from pipeline import register
from pipeline.core import files
from pipeline.core import params as parameters
from pipeline.core.paths import Paths
from pipeline.data.datasets import Split
from pipeline.tracking.connection import connected
from tests.conftest import Once, Repository, forget_store, small_repository
from tests.test_promote import LOW, challenge, command, slightly_different

NAME = "mnist-dense"


@pytest.fixture(scope="session")
def champions_root(once: Once, built: Repository, subset: dict[str, Split]) -> Path:
    """A tree whose model is champion as version 2, after another model as version 1. Its test split has 100 images."""

    def fill(root: Path) -> None:
        forget_store()
        few = {"train": subset["train"], "test": Split(*(array[:100] for array in subset["test"]))}
        repository = small_repository(root, few, LOW)
        for folder in ("model", "evaluation", "explorer", "validation"):
            shutil.copytree(built.paths.data / folder, repository.paths.data / folder)
        before = kept(repository)
        challenge(variant(repository, 0.5), slightly_different)
        command(repository)
        restore(before)
        register.run(repository.params, repository.paths)
        command(repository)
        forget_store()

    return once("champions", fill)


@pytest.fixture
def repository(champions_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A copy of that tree and its store."""
    monkeypatch.delenv("CI", raising=False)
    return copy(champions_root, tmp_path / "tree")


def copy(champions_root: Path, root: Path, *, store: bool = True) -> Repository:
    """A copy of the tree, and of its store if `store` is true."""
    forget_store()
    left_out = ("source",) if store else ("source", "mlruns")
    shutil.copytree(champions_root, root, ignore=shutil.ignore_patterns(*left_out))
    repository = Repository(parameters.load(root / "params.yaml"), Paths(root))
    if store:
        with connected(repository.params, repository.paths):  # corrects the paths of the artifacts
            pass
    return repository


@pytest.fixture
def client(repository: Repository) -> Any:
    return mlflow.MlflowClient(repository.paths.tracking_uri)


def variant(repository: Repository, int8_agreement: float) -> Repository:
    """The same tree with parameters of another lineage, so that an equally good model may become champion."""
    export = repository.params.export.model_copy(update={"int8_agreement": int8_agreement})
    return Repository(repository.params.model_copy(update={"export": export}), repository.paths)


def kept(repository: Repository) -> dict[Path, bytes]:
    """What DVC would restore of the tree: the model, and what the stage register wrote."""
    paths = repository.paths
    return {path: path.read_bytes() for path in (paths.onnx, paths.int8, paths.registration) if path.exists()}


def restore(content: dict[Path, bytes]) -> None:
    for path, data in content.items():
        path.write_bytes(data)


def another(kernel: Any) -> Any:
    """A model that is as good as the champion."""
    return kernel * (1 - 1e-3)


def aliases(client: Any) -> dict[str, int]:
    return {name: int(version) for name, version in client.get_registered_model(NAME).aliases.items()}


def served(repository: Repository) -> str | None:
    """The SHA-256 of the champion's file as its users download it; None if they cannot."""
    with connected(repository.params, repository.paths):
        try:
            folder = mlflow.artifacts.download_artifacts(f"models:/{NAME}@champion")
        except mlflow.exceptions.MlflowException:
            return None
    file = Path(folder) / "model.onnx"
    return files.sha256(file) if file.is_file() else None


def lose(loss: str, repository: Repository, client: Any, number: int = 2) -> None:
    """Lose a part of the champion: by hand in MLflow's UI, by `mlflow gc`, or on the disk. `copy` leaves out the store."""
    version = client.get_model_version(NAME, str(number)) if loss not in ("nothing", "store") else None
    model = version.source.rpartition("/")[2] if version else ""
    artifacts = repository.paths.store / "artifacts"
    losses: dict[str, Callable[[], Any]] = {
        "nothing": lambda: None,
        "store": lambda: None,
        "alias": lambda: client.delete_registered_model_alias(NAME, "champion"),
        "moved alias": lambda: client.set_registered_model_alias(NAME, "champion", "1"),
        "version": lambda: client.delete_model_version(NAME, str(number)),
        "model": lambda: client.delete_registered_model(NAME),
        "files": lambda: shutil.rmtree(artifacts / "models" / model),
        "altered": lambda: (artifacts / "models" / model / "artifacts" / "model.onnx").write_bytes(b"altered"),
        "artifacts": lambda: shutil.rmtree(artifacts),
        "run": lambda: client.delete_run(version.run_id),
        "purged run": lambda: client.delete_run(version.run_id),
        "purged model": lambda: client.delete_logged_model(model),
        "experiment": lambda: client.delete_experiment(client.get_experiment_by_name("mnist").experiment_id),
    }
    losses[loss]()
    if loss.startswith("purged"):
        uri = repository.paths.tracking_uri
        done = CliRunner().invoke(mlflow.cli.gc, ["--backend-store-uri", uri, "--tracking-uri", uri])
        assert done.exit_code == 0, (done.output, done.exception)
