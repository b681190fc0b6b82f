"""A tree and a store with two champions, small enough for tests of every state, and what people do to them."""

import shutil
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
LOSSES = ("alias", "moved alias", "version", "files", "altered", "run", "purged run", "model")


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
    root = tmp_path / "tree"
    shutil.copytree(champions_root, root, ignore=shutil.ignore_patterns("source"))
    return Repository(parameters.load(root / "params.yaml"), Paths(root))


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
    """Lose a part of the champion: by hand in MLflow's UI, by `mlflow gc`, or on the disk."""
    version = client.get_model_version(NAME, str(number))
    folder = repository.paths.store / "artifacts" / "models" / version.source.rpartition("/")[2] / "artifacts"
    if loss == "files":
        shutil.rmtree(folder)
    elif loss == "altered":
        (folder / "model.onnx").write_bytes(b"altered")
    elif loss == "version":
        client.delete_model_version(NAME, str(number))
    elif loss == "alias":
        client.delete_registered_model_alias(NAME, "champion")
    elif loss == "moved alias":
        client.set_registered_model_alias(NAME, "champion", "1")
    elif loss == "model":
        client.delete_registered_model(NAME)
    else:
        client.delete_run(version.run_id)
        if loss == "purged run":
            uri = repository.paths.tracking_uri
            done = CliRunner().invoke(mlflow.cli.gc, ["--backend-store-uri", uri, "--tracking-uri", uri])
            assert done.exit_code == 0, (done.output, done.exception)
