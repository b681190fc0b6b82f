"""The way to the MLflow store: a server that answers or a SQLite file that is sound, and what is said where it is neither."""

import io
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from http import HTTPStatus
from pathlib import Path

import mlflow
import requests
from filelock import FileLock, Timeout
from mlflow.exceptions import MlflowException

from pipeline.core import console, files, signals
from pipeline.core.errors import first_line
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.core.urls import redacted, redacted_text
from pipeline.tracking import relocation, sqlite_store
from pipeline.tracking.errors import BusyStoreError, CredentialsError, TrackingError

_SAMPLING_SECONDS = 1  # a training of two seconds shows in the system metrics too

_CONNECT_SECONDS, _ANSWER_SECONDS = 4, 30  # to wait for a server before any work
_SLOW_SECONDS = 2  # an answer that takes longer is told of
_OTHERS = 3  # pipelines that put in the same: each can refuse us once


@contextmanager
def store_errors(paths: Paths) -> Iterator[None]:
    """See that the store answers, turn MLflow's errors into ours, and hold back the lines that it prints past its log.

    Raises:
        BusyStoreError, UnreadableStoreError: of a SQLite store.
        CredentialsError: a server does not let us in.
        TrackingError: whatever else MLflow finds wrong.
    """
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
        if error.get_http_status_code() == HTTPStatus.UNAUTHORIZED:
            raise CredentialsError(redacted(paths.tracking_uri)) from error
        raise TrackingError(redacted(paths.tracking_uri), reason(error)) from error


@contextmanager
def connected(params: Params, paths: Paths) -> Iterator[str]:
    """Connect to the store, turn its errors into readable ones, and yield the experiment's identifier."""
    with store_errors(paths):
        yield connect(params, paths)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What led to an error of MLflow's, down to SQLite's own, which SQLAlchemy keeps as `orig`."""
    cause: BaseException | None = error
    while cause:
        yield getattr(cause, "orig", None) or cause
        cause = cause.__cause__ or cause.__context__


def reason(error: Exception) -> str:
    """What is wrong, in a line: of a request that was repeated in vain, which says so at length, why."""
    line = first_line(error, most=10_000)
    cause = re.search(r"\(Caused by (.*)\)", line)
    return redacted_text(cause[1] if cause else line)[:200]


def connect(params: Params, paths: Paths) -> str:
    """Point MLflow at the store, make the experiment if it is not there, and return its identifier.

    Raises:
        OlderStoreError, NewerStoreError, UnreadableStoreError, BusyStoreError: of a SQLite store.
    """
    mlflow.set_tracking_uri(paths.tracking_uri)
    mlflow.set_registry_uri(paths.tracking_uri)
    mlflow.set_system_metrics_sampling_interval(_SAMPLING_SECONDS)
    mlflow.set_system_metrics_samples_before_logging(1)
    name = params.tracking.experiment
    with _one_at_a_time(paths) as database:
        if database:
            _hold_signals_in_queries()
            sqlite_store.check(database)
            if not database.exists():
                _make(database)
            relocation.follow(paths)
            if mlflow.get_experiment_by_name(name) is None:
                # Named here, because MLflow's default is ./mlruns, wherever the process happens to stand.
                mlflow.create_experiment(name, artifact_location=(paths.store / "artifacts").as_uri())
        experiment = mlflow.set_experiment(name)
    kind = ("mlflow.experimentKind", "custom_model_development")  # the UI's view for training runs
    retry_on_conflict(lambda: mlflow.set_experiment_tag(*kind))
    return str(experiment.experiment_id)


def retry_on_conflict(put: Callable[[], None]) -> None:
    """Put in what other pipelines may put in at this very moment: who comes second is refused, and then finds it there."""
    for _ in range(_OTHERS):
        try:
            return put()
        except MlflowException as error:
            if error.error_code != "BAD_REQUEST":  # MLflow's name for a database that refuses
                raise
    return put()


@cache
def _hold_signals_in_queries() -> None:
    """Hold signals back while this thread has a connection of MLflow's to the database.

    What is raised in the middle of a query is kept with its cursor by the traceback, and by cycles, and SQLite lets nobody
    write while a cursor has rows left: the run could not be marked as KILLED.
    """
    from sqlalchemy import event
    from sqlalchemy.pool import Pool

    event.listen(Pool, "checkout", lambda *_: signals.hold())
    event.listen(Pool, "checkin", lambda *_: signals.release())


@contextmanager
def _one_at_a_time(paths: Paths) -> Iterator[Path | None]:
    """Pipelines that come upon a SQLite store that is not there yet would all make it, and trip over each other.

    Yields:
        the file of the store; None where it is another store.
    """
    database = sqlite_store.database(paths.tracking_uri)
    if database is None:
        yield None
        return
    paths.store.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(paths.store / "mlflow.db.lock", timeout=2 * sqlite_store.PATIENCE).acquire()
    except Timeout as error:
        raise BusyStoreError(paths.store / "mlflow.db.lock", 2 * sqlite_store.PATIENCE) from error
    with lock:
        yield database


def _make(database: Path) -> None:
    """Make a SQLite store with MLflow's schema, whole or not at all: MLflow takes more than fifty steps to it."""
    with files.replacing(database) as part:
        mlflow.MlflowClient(f"sqlite:///{part}").search_experiments(max_results=1)


@cache
def _reach(uri: str) -> None:
    """Find out in seconds, once, whether a server answers: MLflow waits for minutes where nothing refuses it, either."""
    asked = time.monotonic()
    try:
        requests.get(f"{uri}/health", timeout=(_CONNECT_SECONDS, _ANSWER_SECONDS))
    except requests.Timeout as error:
        raise TrackingError(redacted(uri), f"none within {time.monotonic() - asked:.0f} s") from error
    except (requests.RequestException, ValueError):
        return  # what it is, MLflow says, who knows its own settings
    if (seconds := time.monotonic() - asked) > _SLOW_SECONDS:
        console.echo("mlflow", f"the store at {redacted(uri)} takes {seconds:.1f} s an answer: a stage waits for dozens")


@contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment, which MLflow reads at each request, inside."""
    kept = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in kept.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
