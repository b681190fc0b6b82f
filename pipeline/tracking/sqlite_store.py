"""Check the SQLite file of an MLflow store before MLflow opens it.

MLflow would accept an empty file as a new store, and would migrate an older schema without a backup.
"""

import re
import sqlite3
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

from pipeline.core import files
from pipeline.tracking.errors import BusyStoreError, NewerStoreError, OlderStoreError, UnreadableStoreError

PATIENCE = 20  # seconds to wait for another writer, like MLflow

_SQLITE = "sqlite:///"
_CHECK_BYTES = 200_000_000  # checked in 0.2 s; in a larger store SQLite finds damage when it reads it


def database(uri: str) -> Path | None:
    """The file that a SQLite URI names, options aside; None for another kind of store."""
    path = uri.removeprefix(_SQLITE).partition("?")[0]
    named = path and path != ":memory:" and not path.startswith("file:")  # SQLite's own URIs
    return Path(path).absolute() if uri.startswith(_SQLITE) and named else None


def check(path: Path) -> None:
    """Accept a store that does not exist, or is intact and has the schema of the installed MLflow.

    Raises:
        UnreadableStoreError: it is damaged, or no SQLite file, such as a folder. It is not changed.
        BusyStoreError: another process keeps it locked.
        OlderStoreError: it has the schema of an older MLflow. A copy of it is made beside it.
        NewerStoreError: it has a schema that this MLflow does not know.
    """
    if not path.exists():
        return
    if not path.is_file():  # SQLite would only say that it cannot be opened, and MLflow would retry for minutes
        raise UnreadableStoreError(path, "a folder" if path.is_dir() else "no regular file")
    if path.stat().st_size == 0:
        raise UnreadableStoreError(path, "an empty file")
    try:
        with closing(_open(path)) as connection:
            if path.stat().st_size <= _CHECK_BYTES:
                (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                if found != "ok":
                    raise UnreadableStoreError(path, found.splitlines()[-1])
            revision = _revision(connection)
    except sqlite3.Error as error:
        raise_for(error, path)
        return  # MLflow reports it
    known, latest = _revisions(_migrations())
    if revision is None or latest is None or revision == latest:
        return
    if revision not in known:
        raise NewerStoreError(path, revision, latest)
    raise OlderStoreError(path, revision, latest, back_up(path, f"{revision}.bak"))


def raise_for(error: BaseException, path: Path) -> None:
    """Raise a readable error for a locked or damaged store; return for any other error."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code, without the extension
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        raise BusyStoreError(path, PATIENCE) from error
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        raise UnreadableStoreError(path, str(error)) from error


def back_up(path: Path, suffix: str) -> Path:
    """Copy the store to a file beside it, with the suffix added to its name, and return that. Others may write meanwhile."""
    backup = path.with_name(f"{path.name}.{suffix}")
    with files.replacing(backup) as part, closing(_open(path)) as source, closing(sqlite3.connect(part)) as copy:
        source.backup(copy)
    return backup


def newest_version(path: Path, name: str, onnx_sha256: str) -> int | None:
    """The newest version of the registered model with this file, without MLflow, which takes a second to import."""
    query = (
        "SELECT max(version) FROM model_versions JOIN model_version_tags USING (name, version) "
        "WHERE name = ? AND key = 'onnx_sha256' AND value = ? AND source != 'REDACTED-SOURCE-PATH'"  # of a deleted version
    )
    try:
        with closing(_open(path)) as connection:
            (found,) = connection.execute(query, (name, onnx_sha256)).fetchone()
    except sqlite3.Error:  # there is no store yet, or it is busy or of another MLflow
        return None
    return found and int(found)


def experiment_id(path: Path, name: str) -> str | None:
    """The identifier of an experiment, without MLflow; None if there is none of this name."""
    try:
        with closing(_open(path)) as connection:
            found = connection.execute("SELECT experiment_id FROM experiments WHERE name = ?", (name,)).fetchone()
    except sqlite3.Error:
        return None
    return found and str(found[0])


def _open(path: Path) -> sqlite3.Connection:
    """Open an existing store. Not read-only, because SQLite must first roll back what a killed writer left half done."""
    return sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=PATIENCE)


def _revision(connection: sqlite3.Connection) -> str | None:
    """The revision of the schema; None if the store does not name it."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
        return None
    found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(found[0]) if found else None


def _migrations() -> Path:
    """The folder of MLflow's migrations, located without importing MLflow, which takes seconds."""
    found = find_spec("mlflow")
    return Path(found.origin if found and found.origin else "").parent / "store" / "db_migrations"


def _revisions(migrations: Path) -> tuple[set[str], str | None]:
    """The revisions that MLflow knows, and the latest one; None if the format of its migrations has changed.

    This parses the files as text, because importing them would take longer than all other checks before training.
    """
    text = "\n".join(file.read_text(encoding="utf-8") for file in (migrations / "versions").glob("*.py"))
    known, replaced = (set(re.findall(rf'(?m)^{name}\b.*= *["\'](\w+)["\']', text)) for name in ("revision", "down_revision"))
    latest = known - replaced
    return known, latest.pop() if len(latest) == 1 else None
