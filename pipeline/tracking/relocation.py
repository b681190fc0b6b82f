"""The default MLflow store of a checkout that has moved.

MLflow keeps absolute paths of artifacts, which would lead to where the checkout was.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.core.paths import Paths
from pipeline.tracking.errors import TrackingError
from pipeline.tracking.sqlite_store import PATIENCE, back_up

# Where a store keeps paths of artifacts. What says where data and code lay, in tags and data sets, is a record and stays.
_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
)


def follow(paths: Paths) -> list[Path]:
    """Make every path to a folder that the store had before lead to where it is now; return those folders.

    The store as it was stays beside it, as `mlflow.db.before-move`. A store that MLFLOW_TRACKING_URI names is left alone.

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
    store.execute("BEGIN IMMEDIATE")  # of several processes the first does it, and the others find it done
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
    """The folders from which the store came: experiments name them, and the artifacts are here."""
    places = {_folder(value) for value in _values(store, "experiments", "artifact_location")}
    return sorted(
        place.parent
        for place in places - {here / "artifacts"}
        if place.parts[-2:] == (here.name, "artifacts") and _moved(store, place, here / "artifacts")
    )


def _moved(store: sqlite3.Connection, old: Path, new: Path) -> bool:
    """Whether the artifacts are here. Another checkout that logs to this store keeps its own, and none of them is here.

    Before the first run there are none anywhere: then a checkout that still lies there keeps the place.
    """
    recorded = [*_values(store, "runs", "artifact_uri"), *_values(store, "logged_models", "artifact_location")]
    places = [folder.relative_to(old) for folder in map(_folder, recorded) if folder.is_relative_to(old)]
    if not places:
        return not old.parent.exists()
    return any((new / place).exists() for place in places) or not any((old / place).exists() for place in places)


def _folder(location: str) -> Path:
    parts = urlsplit(location)
    return Path(unquote(parts.path) if parts.scheme == "file" else location)


def _values(store: sqlite3.Connection, table: str, column: str) -> list[str]:
    if not _has(store, table, column):
        return []
    found = store.execute(f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL")  # noqa: S608 - of our own text alone
    return [value for (value,) in found]


def _replace(store: sqlite3.Connection, before: str, after: str) -> None:
    for table, column in _COLUMNS:
        if _has(store, table, column):
            store.execute(
                f"UPDATE {table} SET {column} = :after || substr({column}, length(:before) + 1) "  # noqa: S608 - of our own text alone
                f"WHERE substr({column}, 1, length(:before)) = :before",
                {"before": before, "after": after},
            )


def _has(store: sqlite3.Connection, table: str, column: str) -> bool:
    """Whether the store has the column: it may be of another MLflow, or still be made."""
    return bool(store.execute("SELECT 1 FROM pragma_table_info(?) WHERE name = ?", (table, column)).fetchone())
