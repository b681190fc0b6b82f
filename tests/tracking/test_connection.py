"""A store that cannot be used is refused by its cause, with the command that helps."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import mlflow
import pytest

from pipeline.core.errors import PipelineError
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.tracking import registry
from pipeline.tracking.connection import connected
from pipeline.tracking.errors import (
    AddressError,
    DeletedExperimentError,
    ForeignArtifactsError,
    MissingModelError,
    NoVersionError,
    RefusedByStoreError,
    TrackingError,
)
from tests.conftest import Edit


@pytest.fixture
def params(edit: Edit) -> Params:
    return edit()


@pytest.fixture
def paths(params: Params, empty_store: Path) -> Paths:
    """The current folder, with an empty store."""
    paths = Paths()
    paths.store.mkdir()
    shutil.copy(empty_store, paths.database)
    return paths


@pytest.mark.parametrize(
    ("address", "found", "todo"),
    [
        ("http://127.0.0.1:1\n", r"found 'http://127\.0\.0\.1:1\\n', with a line break in it", "=http://127.0.0.1:1`"),
        (" http://127.0.0.1:1", "with a space in it", "=http://127.0.0.1:1`"),
        ("http://127.0.0.1:1\u200b", r"\\u200b', with an invisible character", "=http://127.0.0.1:1`"),
        ("127.0.0.1:5000", "found '127.0.0.1:5000', without http://", "=http://127.0.0.1:5000`"),
        ("mlflow.example.org", "without http://", "=http://mlflow.example.org`"),
        ("localhost:5000", "without http://", "=http://localhost:5000`"),
        ("http://", "without the name of a server", "unset it"),
        ("databricks", "a Databricks workspace", "unset"),
        ("databricks://profile", "a Databricks workspace", "unset"),
        ("uc:catalog", "a Databricks workspace", "unset"),
        ("file:///srv/mlruns", "a folder: MLflow no longer develops such stores", "=sqlite:///mlflow.db`"),
        ("./mlruns", "a folder", "unset it to use the store in mlruns/"),
        ("ftp://host/x", "of the unknown kind ftp://", "=http://127.0.0.1:5000`"),
        ("sqlite:///", "no file of SQLite", "=sqlite:///mlflow.db`"),
        ("sqlite:///:memory:", "no file of SQLite", "=sqlite:///mlflow.db`"),
        ("sqlite:///srv/ml/runs.db", "in the folder .*/srv/ml, which does not exist", "the path /srv/ml/runs.db, write four"),
        ("sqlite:////no/such/folder/runs.db", "in the folder /no/such/folder", "`mkdir -p /no/such/folder`"),
        ("http://user:secret@127.0.0.1:1 ", r"found 'http://127\.0\.0\.1:1 '", "export"),
    ],
)
def test_an_address_that_names_no_store_is_shown_with_its_cause(
    address: str, found: str, todo: str, params: Params, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(AddressError, match=found) as raised, connected(params, Paths()):
        pass

    assert todo in str(raised.value)
    assert "secret" not in str(raised.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_database_server_that_does_not_listen_is_reported_within_seconds(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://user:secret@127.0.0.1:1/mlflow")

    refused = pytest.raises(TrackingError, match=r"postgresql://127\.0\.0\.1:1/mlflow: expected an answer, found .*refused")
    with refused, connected(params, Paths()):
        pass


def test_a_relative_sqlite_file_is_relative_to_the_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///relative.db?timeout=10")

    assert Paths(tmp_path).tracking_uri == f"sqlite:///{tmp_path}/relative.db?timeout=10"
    monkeypatch.setenv("DVC_ROOT", "/repository")  # an experiment in a temporary copy
    assert Paths(tmp_path).tracking_uri == "sqlite:////repository/relative.db?timeout=10"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////absolute.db")
    assert Paths(tmp_path).tracking_uri == "sqlite:////absolute.db"


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (
            lambda: mlflow.MlflowClient().get_registered_model("mnist-dense"),
            MissingModelError,
            r"mnist-dense: expected this registered model .* `make repro`",
        ),
        (
            lambda: registry.download_uri("models:/mnist-dense@champion", Path()),
            MissingModelError,
            "expected this registered model",
        ),
        (lambda: mlflow.start_run(run_id="0" * 32), RefusedByStoreError, "expected it to accept a request"),
    ],
)
def test_what_the_store_lacks_is_not_blamed_on_its_address(
    ask: Callable[[], object], error: type[PipelineError], message: str, params: Params, paths: Paths
) -> None:
    with pytest.raises(error, match=f"(?s){message}") as raised, connected(params, paths):
        ask()

    assert "Start the server" not in str(raised.value)


def test_a_model_without_the_alias_is_named(params: Params, paths: Paths) -> None:
    with connected(params, paths):
        mlflow.MlflowClient().create_registered_model("mnist-dense")

    missing = pytest.raises(NoVersionError, match="expected a version with the alias champion, found none")
    with missing, connected(params, paths):
        registry.download_uri("models:/mnist-dense@champion", Path())


def test_a_deleted_experiment_is_restored_by_the_command_that_the_error_gives(params: Params, paths: Paths) -> None:
    with connected(params, paths) as experiment:
        mlflow.MlflowClient().delete_experiment(experiment)

    with pytest.raises(DeletedExperimentError, match=f"restore --experiment-id {experiment}"), connected(params, paths):
        pass


def test_checkouts_that_share_a_sqlite_file_keep_their_artifacts_beside_it(
    params: Params, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shutil.copy(empty_store, shared / "runs.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shared}/runs.db")

    for name in ("first", "second"):
        with connected(params, Paths(tmp_path / name)) as experiment, mlflow.start_run():
            mlflow.log_text(name, "text.txt")
            assert mlflow.get_experiment(experiment).artifact_location == (shared / "artifacts").as_uri()

    assert sorted(path.read_text() for path in shared.rglob("text.txt")) == ["first", "second"]
    assert not (tmp_path / "first" / "mlruns").exists()


def test_a_shared_store_with_artifacts_in_another_checkout_is_refused(
    params: Params, paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected(params, paths):
        pass
    shutil.copy(paths.database, tmp_path / "runs.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")

    with connected(params, paths):  # of the checkout that has them
        pass
    refused = pytest.raises(
        ForeignArtifactsError, match=f"found them in {paths.store}/artifacts, which belongs to another checkout"
    )
    with refused, connected(params, Paths(tmp_path / "second")):
        pass
    with closing(sqlite3.connect(tmp_path / "runs.db")) as store:
        assert store.execute("SELECT count(*) FROM runs").fetchone() == (0,)
