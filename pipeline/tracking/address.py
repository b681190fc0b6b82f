"""Check MLFLOW_TRACKING_URI, before MLflow takes a mistyped address for another kind of store."""

import os
import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.core.paths import TRACKING_URI, Paths
from pipeline.core.urls import redacted
from pipeline.tracking import sqlite_store
from pipeline.tracking.errors import AddressError, TrackingError

_SERVERS = ("http", "https")
_DATABASES = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}  # and their ports
_CONNECT_SECONDS = 4


def check(paths: Paths) -> None:
    """Refuse an address that names no MLflow server and no database that can keep runs.

    Raises:
        AddressError: it names something else, or the folder of a SQLite file does not exist.
        TrackingError: no database server listens there. MLflow itself would try for minutes.
    """
    given = os.environ.get(TRACKING_URI)
    if not given:
        return
    problem = _problem(given)
    database = sqlite_store.database(paths.tracking_uri)
    if problem is None and database and database.parent != paths.store and not database.parent.is_dir():
        problem = _missing_folder(given, database)
    if problem is not None:
        raise AddressError(redacted(given), *problem)
    _reach_database(given)


def _problem(given: str) -> tuple[str, str] | None:
    """Why the address cannot be right, and what to do; None if it can."""
    stripped = given.strip()
    if stripped != given or any(not sign.isprintable() for sign in given):
        clean = "".join(sign for sign in stripped if sign.isprintable())
        kind = "a line break" if "\n" in given or "\r" in given else "a space" if " " in given else "an invisible character"
        return f"with {kind} in it", _export(clean)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)(?=://)", given)
    kind = scheme[1].lower().partition("+")[0] if scheme else ""
    if kind in _SERVERS:
        return None if urlsplit(given).hostname else ("without the name of a server", _export("http://127.0.0.1:5000"))
    if kind in _DATABASES:
        return None
    if kind == "sqlite":
        return _sqlite_problem(given)
    return _other_problem(given, kind)


def _sqlite_problem(given: str) -> tuple[str, str] | None:
    if sqlite_store.database(given) is None:
        return "which names no file of SQLite", _export("sqlite:///mlflow.db")
    return None


def _other_problem(given: str, kind: str) -> tuple[str, str]:
    name = given.partition(":")[0].lower()
    if name in ("databricks", "databricks-uc", "uc"):
        return "a Databricks workspace, for which no package is installed", "Name another store, or unset the variable."
    if not kind and re.fullmatch(r"(localhost|[\w-]+(\.[\w-]+)+)(:\d+)?(/.*)?", given) and not Path(given).exists():
        return "without http:// or https://", _export(f"http://{given}")
    if kind in ("", "file"):
        return "a folder: MLflow no longer develops such stores, and they have no model registry", _export(
            "sqlite:///mlflow.db"
        )
    return f"of the unknown kind {kind}://", _export("http://127.0.0.1:5000")


def _missing_folder(given: str, database: Path) -> tuple[str, str]:
    remedy = f"Create it: `mkdir -p {database.parent}`."
    path = given.partition(":///")[2]
    if not path.startswith("/"):
        remedy += f" If you meant the path /{path}, write four slashes: three begin a path in the repository."
    return f"in the folder {database.parent}, which does not exist", remedy


def _export(address: str) -> str:
    return f"Correct it, for example `export {TRACKING_URI}={redacted(address)}`, or unset it to use the store in mlruns/."


def _reach_database(address: str) -> None:
    parts = urlsplit(address)
    port = _DATABASES.get(parts.scheme.lower().partition("+")[0])
    if port is None or not parts.hostname:  # a server, a file, or a socket of this machine
        return
    try:
        socket.create_connection((parts.hostname, parts.port or port), _CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise TrackingError(redacted(address), str(error)) from error
