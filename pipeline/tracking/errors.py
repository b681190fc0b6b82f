"""Errors of the MLflow store and its model registry."""

from pathlib import Path

from pipeline.core.errors import PipelineError


class TrackingError(PipelineError):
    """The MLflow store cannot be used."""

    def __init__(self, uri: str, found: str) -> None:
        super().__init__(
            f"MLflow store {uri}: expected an answer, found {found}.\n"
            "Files already written stay. Start the server, or correct or unset MLFLOW_TRACKING_URI, and repeat."
        )


class CredentialsError(PipelineError):
    """The MLflow server wants to know who asks, and did not hear it."""

    def __init__(self, uri: str) -> None:
        super().__init__(
            f"MLflow store {uri}: expected to be let in, found user or password wrong or missing.\n"
            "Files already written stay. Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, and repeat."
        )


class MissingStoreError(PipelineError):
    """There is no local SQLite store."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"MLflow store {path}: expected a SQLite database, found none.\n"
            "Nothing was started. `make repro` creates it; `make register` creates it again from the current results."
        )


class BusyStoreError(PipelineError):
    """Another process does not let go of the SQLite store."""

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__(
            f"MLflow store {path}: expected to read and write it, found it locked by another process for {seconds:g} s.\n"
            f"Nothing in it is lost, and files already written stay. `fuser {path}` names that process: "
            "let it end, or end it, and repeat."
        )


class UnreadableStoreError(PipelineError):
    """The SQLite store is damaged, or is something else."""

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(
            f"MLflow store {path}: expected a whole SQLite database, found {found}.\n"
            "It is left as it is. Put a backup in its place if there is one, or begin a new store: "
            f"`mv {path} {path}.damaged`, and `make register` puts the current results into it, curves included."
        )


class OlderStoreError(PipelineError):
    """The SQLite store is of an older MLflow."""

    def __init__(self, path: Path, found: str, expected: str, backup: Path) -> None:
        super().__init__(
            f"MLflow store {path}: expected the schema {expected} of this MLflow, found {found}, of an older one.\n"
            f"It is left as it is, and {backup} is a copy. To go on with this MLflow: `mlflow db upgrade sqlite:///{path}`, "
            "and repeat."
        )


class NewerStoreError(PipelineError):
    """The SQLite store is of an MLflow that is newer than the one installed."""

    def __init__(self, path: Path, found: str, expected: str) -> None:
        super().__init__(
            f"MLflow store {path}: expected the schema {expected} of this MLflow, found {found}, of a newer one.\n"
            f"It is left as it is. Install that MLflow (`make setup` in a tree of that time), or put back a copy of the store "
            f"from before: `ls {path}.*.bak`."
        )


class AlteredModelError(PipelineError):
    """A registered file is not the one that was registered."""

    def __init__(self, version: str, file: str, expected: str, found: str) -> None:
        super().__init__(
            f"{version}, {file}: expected the file with SHA-256 {expected[:12] or 'none'}…, found {found[:12]}….\n"
            "It was not used. Register the model again: `make register`, or train it: `dvc repro --force`."
        )


class NoVersionError(PipelineError):
    """An alias of the registered model names no version."""

    def __init__(self, model: str, alias: str, todo: str) -> None:
        super().__init__(f"{model}: expected a version with the alias {alias}, found none.\nNothing was changed. {todo}")
