"""Errors of the MLflow store and its model registry."""

from pathlib import Path

from pipeline.core.errors import PipelineError


class TrackingError(PipelineError):
    """The MLflow store cannot be used."""

    def __init__(self, uri: str, found: str) -> None:
        super().__init__(
            f"MLflow store {uri}: expected an answer, found {found}.\n"
            "Files already written are kept. Start the server (if it runs, its log has the cause), or correct or unset "
            "MLFLOW_TRACKING_URI, and rerun."
        )


class AddressError(PipelineError):
    """MLFLOW_TRACKING_URI names no store that can be used."""

    def __init__(self, uri: str, found: str, todo: str) -> None:
        super().__init__(
            "MLFLOW_TRACKING_URI: expected the address of a server (http://, https://) or of a database (sqlite:///, "
            f"postgresql://), found {uri!r}, {found}.\nNothing was sent or written. {todo}"
        )


class RefusedByStoreError(PipelineError):
    """The MLflow store answers, and refuses a request."""

    def __init__(self, uri: str, found: str) -> None:
        super().__init__(
            f"MLflow store {uri}: expected it to accept a request, found a refusal: {found}\n"
            "Files already written are kept. The store answers, so its address is right: remove the reason, and rerun."
        )


class PermissionRefusedError(PipelineError):
    """The MLflow server refuses the user this operation."""

    def __init__(self, uri: str, found: str) -> None:
        super().__init__(
            f"MLflow store {uri}: expected permission to read and write runs and models, found none: {found}\n"
            "Files already written are kept. Ask the administrator of the server for the permission EDIT, or set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD of another user, and rerun."
        )


class MissingModelError(PipelineError):
    """The store has no registered model of this name."""

    def __init__(self, model: str, uri: str) -> None:
        super().__init__(
            f"{model}: expected this registered model (tracking.model) in the MLflow store {uri}, found none.\n"
            "Nothing was changed. `make repro` trains and registers a version, `make register` registers the files in place. "
            "If another store has the model, set MLFLOW_TRACKING_URI to its address."
        )


class ForeignArtifactsError(PipelineError):
    """The artifacts of a shared SQLite store are in another checkout."""

    def __init__(self, uri: str, experiment: str, folder: str) -> None:
        super().__init__(
            f"MLflow store {uri}: expected the artifacts of experiment {experiment} beside it, found them in {folder}, which "
            "belongs to another checkout: this one's artifacts would be deleted with that one.\n"
            "Nothing was logged. Unset MLFLOW_TRACKING_URI to use a store of this checkout, name a new SQLite file, or share "
            "a server (docs/team.md)."
        )


class CredentialsError(PipelineError):
    """The MLflow server does not accept the user and password."""

    def __init__(self, uri: str) -> None:
        super().__init__(
            f"MLflow store {uri}: expected valid credentials, found user or password wrong or missing.\n"
            "Files already written are kept. Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, and rerun."
        )


class DeletedExperimentError(PipelineError):
    """Somebody deleted the experiment, and with it its runs."""

    def __init__(self, name: str, uri: str, number: str) -> None:
        super().__init__(
            f"MLflow store {uri}: expected an experiment {name}, found that it was deleted, with its runs.\n"
            "Nothing was written. Restore it, or give another name in tracking.experiment of params.yaml:\n"
            f"MLFLOW_TRACKING_URI={uri} mlflow experiments restore --experiment-id {number}"
        )


class MissingStoreError(PipelineError):
    """There is no local SQLite store."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"MLflow store {path}: expected a SQLite database, found none.\n"
            "Nothing was started. `make repro` creates it; `make register` creates it again from the current results."
        )


class BusyStoreError(PipelineError):
    """Another process keeps the SQLite store locked."""

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__(
            f"MLflow store {path}: expected to read and write it, found it locked by another process for {seconds:g} s.\n"
            f"Nothing in it is lost, and files already written are kept. `fuser {path}` shows that process: "
            "wait until it ends, or end it, and rerun."
        )


class UnreadableStoreError(PipelineError):
    """The SQLite store is damaged, or is no SQLite file."""

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(
            f"MLflow store {path}: expected a complete SQLite database, found {found}.\n"
            "It was not changed. Restore a backup, or start a new store: "
            f"`mv {path} {path}.damaged`, then `make register` adds the current results, curves included."
        )


class OlderStoreError(PipelineError):
    """The SQLite store has the schema of an older MLflow."""

    def __init__(self, path: Path, found: str, expected: str, backup: Path) -> None:
        super().__init__(
            f"MLflow store {path}: expected the schema {expected} of this MLflow, found {found}, of an older one.\n"
            f"It was not changed, and {backup} is a copy. To use it with this MLflow, run "
            f"`mlflow db upgrade sqlite:///{path}`, and rerun."
        )


class NewerStoreError(PipelineError):
    """The SQLite store has a schema that the installed MLflow does not know."""

    def __init__(self, path: Path, found: str, expected: str) -> None:
        super().__init__(
            f"MLflow store {path}: expected the schema {expected} of this MLflow, found {found}, of a newer one.\n"
            "It was not changed. Install that MLflow (`make setup` in the commit that wrote the store), or restore an older "
            f"copy: `ls {path}.*.bak`."
        )


class AlteredModelError(PipelineError):
    """A registered file was altered or removed after its registration."""

    def __init__(self, version: str, file: str, expected: str, found: str) -> None:
        super().__init__(
            f"{version}, {file}: expected the file with SHA-256 {_shown(expected, 'any')}, found {_shown(found, 'no file')}.\n"
            "It was not used. `make verify` says how to restore a champion; `make register` registers the model of this tree."
        )


class UnregisteredTreeError(PipelineError):
    """The store lacks the model of this tree, whose files do not belong together, so that it cannot be registered."""

    def __init__(self, path: Path, expected: str, found: str) -> None:
        super().__init__(
            f"{path}: expected {expected}, found {found}.\n"
            "The store lacks the model of this tree, and nothing was registered. `make repro` makes the tree consistent."
        )


class NoVersionError(PipelineError):
    """No version of the registered model has the alias."""

    def __init__(self, model: str, alias: str, todo: str) -> None:
        super().__init__(f"{model}: expected a version with the alias {alias}, found none.\nNothing was changed. {todo}")


def _shown(sha256: str, empty: str) -> str:
    return f"{sha256[:12]}…" if sha256 else empty
