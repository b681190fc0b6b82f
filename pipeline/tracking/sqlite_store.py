"""The SQLite file of an MLflow store, looked at before MLflow opens it.

MLflow would take an empty file for a new store, and change the schema of an older one without a copy.
"""

import re
import sqlite3
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

from pipeline.core import files
from pipeline.tracking.errors import BusyStoreError, NewerStoreError, OlderStoreError, UnreadableStoreError

PATIENCE = 20  # seconds to wait for another's writing, as MLflow does

_SQLITE = "sqlite:///"
_READ_WHOLE = 200_000_000  # bytes, a fifth of a second; of a larger store SQLite finds what is damaged when it comes upon it


def database(uri: str) -> Path | None:
    """The file of a SQLite store, whatever options follow its name; None of another store."""
    path = uri.removeprefix(_SQLITE).partition("?")[0]
    named = path and path != ":memory:" and not path.startswith("file:")  # an address within the address
    return Path(path).absolute() if uri.startswith(_SQLITE) and named else None


def check(path: Path) -> None:
    """Pass a store that is not there, or that is whole and has the schema of the MLflow that is installed.

    Raises:
        UnreadableStoreError: it is damaged, or something else, such as a folder. It is left as it is.
        BusyStoreError: another process has been writing for too long.
        OlderStoreError: its schema is an older MLflow's. A copy lies beside it.
        NewerStoreError: its schema is one that this MLflow does not know.
    """
    if not path.exists():
        return
    if not path.is_file():  # of which SQLite says only that it cannot be opened, and MLflow asks it for minutes
        raise UnreadableStoreError(path, "a folder" if path.is_dir() else "no regular file")
    if path.stat().st_size == 0:
        raise UnreadableStoreError(path, "an empty file")
    try:
        with closing(_open(path)) as connection:
            if path.stat().st_size <= _READ_WHOLE:
                (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                if found != "ok":
                    raise UnreadableStoreError(path, found.splitlines()[-1])
            revision = _revision(connection)
    except sqlite3.Error as error:
        raise_for(error, path)
        return  # what it is, MLflow says
    known, latest = _revisions(_migrations())
    if revision is None or latest is None or revision == latest:
        return
    if revision not in known:
        raise NewerStoreError(path, revision, latest)
    raise OlderStoreError(path, revision, latest, back_up(path, f"{revision}.bak"))


def raise_for(error: BaseException, path: Path) -> None:
    """Raise what there is to be said about an error of SQLite; return where that is nothing special."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without what SQLite adds to its codes
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        raise BusyStoreError(path, PATIENCE) from error
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        raise UnreadableStoreError(path, str(error)) from error


def back_up(path: Path, suffix: str) -> Path:
    """Copy the store, whoever writes to it, to a file beside it, which has its name and the suffix; return that."""
    backup = path.with_name(f"{path.name}.{suffix}")
    with files.replacing(backup) as part, closing(_open(path)) as source, closing(sqlite3.connect(part)) as copy:
        source.backup(copy)
    return backup


def _open(path: Path) -> sqlite3.Connection:
    """Open what is there, to read: but what a writer that was killed left half done is undone first, so not read-only."""
    return sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=PATIENCE)


def _revision(connection: sqlite3.Connection) -> str | None:
    """The name of the schema; None where no table says it."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
        return None
    found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(found[0]) if found else None


def _migrations() -> Path:
    """The folder of MLflow's schemas, found without importing MLflow, which takes seconds."""
    found = find_spec("mlflow")
    return Path(found.origin if found and found.origin else "").parent / "store" / "db_migrations"


def _revisions(migrations: Path) -> tuple[set[str], str | None]:
    """The schemas that MLflow knows, and the one that it works with; None where its files are not written as they are now.

    Read as text: running the migrations' files takes longer than all else that is done before training.
    """
    text = "\n".join(file.read_text(encoding="utf-8") for file in (migrations / "versions").glob("*.py"))
    known, replaced = (set(re.findall(rf'(?m)^{name}\b.*= *["\'](\w+)["\']', text)) for name in ("revision", "down_revision"))
    latest = known - replaced
    return known, latest.pop() if len(latest) == 1 else None
