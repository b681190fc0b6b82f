"""Connect to the MLflow store, a server or a SQLite file, and turn its failures into readable errors."""

import io
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from http import HTTPStatus
from pathlib import Path

import mlflow
import requests
from filelock import FileLock, Timeout
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException

from pipeline.core import console, files, signals
from pipeline.core.errors import PipelineError, first_line
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.core.urls import redacted, redacted_text
from pipeline.tracking import address, relocation, sqlite_store
from pipeline.tracking.errors import (
    BusyStoreError,
    CredentialsError,
    DeletedExperimentError,
    ForeignArtifactsError,
    MissingModelError,
    NoVersionError,
    PermissionRefusedError,
    RefusedByStoreError,
    TrackingError,
)

_SAMPLING_SECONDS = 1  # so that even a training of two seconds has system metrics
_CONNECT_SECONDS, _ANSWER_SECONDS = 4, 30  # timeouts of the first request to a server
_SLOW_SECONDS = 2  # warn about a server that takes longer to answer
_RETRIES = 3  # concurrent pipelines, each of which can cause one conflict


@contextmanager
def store_errors(paths: Paths) -> Iterator[None]:
    """Check that the store answers, turn MLflow's errors into readable ones, and suppress what MLflow prints.

    Raises:
        AddressError: MLFLOW_TRACKING_URI names no store.
        BusyStoreError, UnreadableStoreError: a SQLite store is locked or damaged.
        CredentialsError, PermissionRefusedError: a server refuses the user.
        MissingModelError, NoVersionError: the store has no such model, or no version with the alias.
        RefusedByStoreError: the store refuses a request for another reason.
        TrackingError: the store does not answer, or any other error of MLflow.
    """
    address.check(paths)
    if paths.tracking_uri.startswith("http"):
        _reach(paths.tracking_uri)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    except Exception as error:
        if database := sqlite_store.database(paths.tracking_uri):
            for cause in _causes(error):
                sqlite_store.raise_for(cause, database)
        if not isinstance(error, MlflowException):
            raise
        raise _by_cause(error, redacted(paths.tracking_uri)) from error


@contextmanager
def connected(params: Params, paths: Paths) -> Iterator[str]:
    """Connect to the store, turn its errors into readable ones, and yield the experiment's identifier."""
    with store_errors(paths):
        yield connect(params, paths)


def _by_cause(error: MlflowException, uri: str) -> PipelineError:
    status, found = error.get_http_status_code(), reason(error)
    if status == HTTPStatus.UNAUTHORIZED:
        return CredentialsError(uri)
    if status == HTTPStatus.FORBIDDEN:
        return PermissionRefusedError(uri, found)
    if model := re.search(r"Registered Model with name=(.+?) not found", found):
        return MissingModelError(model[1], uri)
    if alias := re.search(r"Registered model alias (.+?) not found", found):
        return NoVersionError(
            f"MLflow store {uri}", alias[1], "`make promote` decides on the challenger, `make repro` registers one."
        )
    refused = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    if refused and "API request to " not in found:  # not an answer of a server that is no MLflow, or of a proxy
        return RefusedByStoreError(uri, found)
    return TrackingError(uri, found)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The chain of causes of an MLflow error, down to the SQLite error, which SQLAlchemy stores as `orig`."""
    cause: BaseException | None = error
    while cause:
        yield getattr(cause, "orig", None) or cause
        cause = cause.__cause__ or cause.__context__


def reason(error: Exception) -> str:
    """The error in one line of at most 200 characters. If all retries of a request failed: the cause of that."""
    line = first_line(error, most=10_000)
    cause = re.search(r"\(Caused by (.*)\)", line)
    return redacted_text(cause[1] if cause else line)[:200]


def connect(params: Params, paths: Paths) -> str:
    """Point MLflow to the store, create the experiment if it does not exist, and return its identifier.

    Raises:
        OlderStoreError, NewerStoreError, UnreadableStoreError, BusyStoreError: a SQLite store cannot be used.
        DeletedExperimentError: the experiment was deleted, and its name is still taken.
        ForeignArtifactsError: the artifacts of a SQLite store are in another checkout.
    """
    mlflow.set_tracking_uri(paths.tracking_uri)
    mlflow.set_registry_uri(paths.tracking_uri)
    mlflow.set_system_metrics_sampling_interval(_SAMPLING_SECONDS)
    mlflow.set_system_metrics_samples_before_logging(1)
    name = params.tracking.experiment
    with _locked(paths) as database:
        if database:
            _hold_signals_in_queries()
            sqlite_store.check(database)
            if not database.exists():
                _create(database)
            relocation.follow(paths)
            found = mlflow.get_experiment_by_name(name)
            if found:
                _check_location(found, database, paths)
            else:
                # Beside the database, so that checkouts that share it do not depend on each other's folders.
                mlflow.create_experiment(name, artifact_location=(database.parent / "artifacts").as_uri())
        experiment = _activate(name, paths)
    kind = ("mlflow.experimentKind", "custom_model_development")  # the UI's view for training runs
    retry_on_conflict(lambda: mlflow.set_experiment_tag(*kind))
    return str(experiment.experiment_id)


def _activate(name: str, paths: Paths) -> Experiment:
    """Make the experiment active, and create it if it does not exist."""
    try:
        return mlflow.set_experiment(name)
    except MlflowException as error:
        found = mlflow.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage != LifecycleStage.DELETED:
            raise
        raise DeletedExperimentError(name, redacted(paths.tracking_uri), found.experiment_id) from error


def _check_location(experiment: Experiment, database: Path, paths: Paths) -> None:
    """Raise ForeignArtifactsError if the artifacts are in the `mlruns` of another checkout."""
    location = relocation.local_path(experiment.artifact_location)
    own = location.parent in (database.parent, paths.store)
    if not own and location.parts[-2:] == (paths.store.name, "artifacts"):
        raise ForeignArtifactsError(redacted(paths.tracking_uri), experiment.name, str(location))


def retry_on_conflict(write: Callable[[], None]) -> None:
    """Call `write` again if another pipeline writes the same entry at the same moment: the database refuses the second."""
    for _ in range(_RETRIES):
        try:
            return write()
        except MlflowException as error:
            if error.error_code != "BAD_REQUEST":  # MLflow's code for a refusal by the database
                raise
    return write()


@cache
def _hold_signals_in_queries() -> None:
    """Defer signals while MLflow uses a database connection in this thread.

    An exception raised during a query keeps the query's cursor alive, through its traceback and reference cycles. SQLite
    refuses other writers while a cursor has rows left, so that the run could not be marked as KILLED.
    """
    from sqlalchemy import event
    from sqlalchemy.pool import Pool

    event.listen(Pool, "checkout", lambda *_: signals.hold())
    event.listen(Pool, "checkin", lambda *_: signals.release())


@contextmanager
def _locked(paths: Paths) -> Iterator[Path | None]:
    """Lock a SQLite store, because concurrent pipelines must not create or migrate it at the same time.

    Yields:
        the file of the store; None for another kind of store.
    """
    database = sqlite_store.database(paths.tracking_uri)
    if database is None:
        yield None
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    path = database.with_name(f"{database.name}.lock")
    try:
        lock = FileLock(path, timeout=2 * sqlite_store.PATIENCE).acquire()
    except Timeout as error:
        raise BusyStoreError(path, 2 * sqlite_store.PATIENCE) from error
    with lock:
        yield database


def _create(database: Path) -> None:
    """Create a SQLite store with MLflow's schema. It appears only when complete: MLflow runs more than fifty migrations."""
    with files.replacing(database) as part:
        mlflow.MlflowClient(f"sqlite:///{part}").search_experiments(max_results=1)


@cache
def _reach(uri: str) -> None:
    """Check once, within seconds, that a server answers. MLflow itself would wait for minutes."""
    asked = time.monotonic()
    try:
        requests.get(f"{uri}/health", timeout=(_CONNECT_SECONDS, _ANSWER_SECONDS))
    except requests.Timeout as error:
        raise TrackingError(redacted(uri), f"none within {time.monotonic() - asked:.0f} s") from error
    except (requests.RequestException, ValueError):
        return  # MLflow reports these, because it knows its own settings
    if (seconds := time.monotonic() - asked) > _SLOW_SECONDS:
        console.echo(
            "mlflow", f"the store at {redacted(uri)} takes {seconds:.1f} s per answer; a stage waits for dozens of them"
        )
