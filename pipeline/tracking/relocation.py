"""Migrate the artifact paths of the default MLflow store after the checkout was moved.

MLflow stores absolute paths, which would still point to the old location.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.core.paths import Paths
from pipeline.tracking.errors import TrackingError
from pipeline.tracking.sqlite_store import PATIENCE, back_up

# The columns with artifact paths. Tags and data sets record where data and code were, and stay as they are.
_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
)


def follow(paths: Paths) -> list[Path]:
    """Replace the old folders of the store in all artifact paths by its current folder; return the old folders.

    `mlflow.db.before-move` keeps the store as it was. A store that MLFLOW_TRACKING_URI names is not changed.

    Raises:
        TrackingError: the store cannot be read or written.
    """
    if not paths.database.is_file() or paths.tracking_uri != f"sqlite:///{paths.database}":
        return []
    try:
        with closing(sqlite3.connect(paths.database, timeout=PATIENCE, isolation_level=None)) as store:
            return _follow(store, paths) if _left(store, paths.store) else []
    except sqlite3.Error as error:
        raise TrackingError(paths.tracking_uri, str(error)) from error


def _follow(store: sqlite3.Connection, paths: Paths) -> list[Path]:
    store.execute("BEGIN IMMEDIATE")  # one of several processes migrates; the others then find nothing left to do
    left = _left(store, paths.store)
    if left:
        back_up(paths.database, "before-move")
    for old in left:
        # MLflow's own experiment "Default" has a bare path.
        for before, after in ((old.as_uri(), paths.store.as_uri()), (str(old), str(paths.store))):
            _replace(store, f"{before}/", f"{after}/")
    store.execute("COMMIT")
    return left


def _left(store: sqlite3.Connection, here: Path) -> list[Path]:
    """The former folders of the store: experiments name them, but their artifacts are here."""
    locations = {local_path(value) for value in _values(store, "experiments", "artifact_location")}
    return sorted(
        location.parent
        for location in locations - {here / "artifacts"}
        if location.parts[-2:] == (here.name, "artifacts") and _moved(store, location, here / "artifacts")
    )


def _moved(store: sqlite3.Connection, old: Path, new: Path) -> bool:
    """Whether the artifacts of `old` are in `new`. If another checkout logs to this store, its artifacts are not.

    Before the first run there are no artifacts: then the checkout has moved if its old folder is gone.
    """
    recorded = [*_values(store, "runs", "artifact_uri"), *_values(store, "logged_models", "artifact_location")]
    artifacts = [folder.relative_to(old) for folder in map(local_path, recorded) if folder.is_relative_to(old)]
    if not artifacts:
        return not old.parent.exists()
    return any((new / path).exists() for path in artifacts) or not any((old / path).exists() for path in artifacts)


def local_path(location: str) -> Path:
    """The folder that an artifact location of MLflow names, as a path or as a URI."""
    parts = urlsplit(location)
    return Path(unquote(parts.path) if parts.scheme == "file" else location)


def _values(store: sqlite3.Connection, table: str, column: str) -> list[str]:
    if not _has(store, table, column):
        return []
    found = store.execute(f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL")  # noqa: S608 - names from _COLUMNS only
    return [value for (value,) in found]


def _replace(store: sqlite3.Connection, before: str, after: str) -> None:
    for table, column in _COLUMNS:
        if _has(store, table, column):
            store.execute(
                f"UPDATE {table} SET {column} = :after || substr({column}, length(:before) + 1) "  # noqa: S608 - names from _COLUMNS only
                f"WHERE substr({column}, 1, length(:before)) = :before",
                {"before": before, "after": after},
            )


def _has(store: sqlite3.Connection, table: str, column: str) -> bool:
    """Whether the store has the column. It may come from another MLflow, or may be incomplete yet."""
    return bool(store.execute("SELECT 1 FROM pragma_table_info(?) WHERE name = ?", (table, column)).fetchone())
