"""The errors a person can mend. Each owns its message: what was expected, what was found, what follows, what to do."""

from collections.abc import Mapping, Sequence
from pathlib import Path


def first_line(error: Exception, most: int = 200) -> str:
    """What another's error says, in a line of at most `most` characters; its name where it says nothing."""
    return str(error).strip().partition("\n")[0][:most] or type(error).__name__


class PipelineError(Exception):
    """Base of everything that ends a verb with a clear line and exit code 1 instead of a traceback."""


class InvalidParamsError(PipelineError):
    """params.yaml is missing, is not YAML, or holds a key or a value that the pipeline does not accept."""

    def __init__(self, path: Path, problems: Sequence[str]) -> None:
        listed = "; ".join(problems)
        super().__init__(f"{path}: {listed}.\nNothing was run. Correct the file, or `git checkout {path}`.")


class MissingInputError(PipelineError):
    """A file that an earlier stage writes is not there."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path}: expected this file from an earlier stage, found none.\nNothing was written. `dvc repro` makes it."
        )


class UnusableInputError(PipelineError):
    """A file that an earlier stage wrote is there, but is not what that stage wrote."""

    def __init__(self, path: Path, expected: str, found: str) -> None:
        super().__init__(
            f"{path}: expected {expected}, found {found}: it changed after it was written.\n"
            f"Nothing was written. Delete {path} and run `dvc repro`."
        )


class IdxError(PipelineError):
    """Bytes that are not the IDX file, or the array of an npz file, that they should be."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}, found {found}")
        self.expected = expected
        self.found = found


class SourceRefusedError(PipelineError):
    """One source could not give one file. Fetching goes on with the next source."""


class NoSourceError(PipelineError):
    """No source could give a file."""

    def __init__(self, name: str, refusals: Mapping[str, str]) -> None:
        lines = "".join(f"\n  {source}: {reason}" for source, reason in refusals.items())
        super().__init__(
            f"{name}: expected one of {len(refusals)} sources to have it, none did:{lines}\n"
            "The arrays already in place are untouched. Add a source to fetch.sources in params.yaml."
        )


class ExtraRefusedError(PipelineError):
    """A set of further training data cannot be had, or does not fit the base."""

    def __init__(self, name: str, source: str, reason: str) -> None:
        super().__init__(
            f"extra {name}, {source}: {reason}.\n"
            "The arrays already in place are untouched. Mend the set, or its entry of fetch.extra in params.yaml."
        )


class MismatchError(PipelineError):
    """Files that are each well formed do not belong together."""

    def __init__(self, what: str, expected: str, found: str) -> None:
        super().__init__(
            f"{what}: expected {expected}, found {found}.\n"
            "The arrays already in place are untouched. Check fetch.files and fetch.sources in params.yaml."
        )


class InvalidDataError(PipelineError):
    """The data broke expectations; the report and the Data Docs are kept."""

    def __init__(self, failures: Sequence[str], report: Path, docs: Path) -> None:
        lines = "".join(f"\n  {failure}" for failure in failures)
        noun = "expectation" if len(failures) == 1 else "expectations"
        super().__init__(
            f"the data broke {len(failures)} {noun}:{lines}\n"
            f"Nothing is trained on it. See {docs}, mend the data or `validate:` in params.yaml ({report} keeps the figures)."
        )


class UnvalidatedDataError(PipelineError):
    """Training was asked for on data that validation refused or never saw."""

    def __init__(self, report: Path, found: str) -> None:
        super().__init__(
            f"{report}: expected a passed validation of the arrays in place, found {found}.\n"
            "Nothing was trained. `dvc repro` validates first."
        )


class DivergedError(PipelineError):
    """The loss stopped being a number."""

    def __init__(self, epoch: int, loss: float) -> None:
        super().__init__(
            f"training diverged in epoch {epoch}: expected a finite loss, found {loss}.\n"
            "No model was written. Lower train.learning_rate in params.yaml, or check the data."
        )


class ExportError(PipelineError):
    """The exported file is not the model that was trained."""

    def __init__(self, what: str, expected: str, found: str) -> None:
        super().__init__(
            f"{what}: expected {expected}, found {found}.\n"
            "No model file was left behind. Check export: in params.yaml, and the versions of tf2onnx and onnxruntime."
        )


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


class OtherModelError(PipelineError):
    """A model file is not the one that was asked for by its hash."""

    def __init__(self, source: str, expected: str, found: str) -> None:
        super().__init__(
            f"{source}: expected the file with SHA-256 {expected}, found {found}.\n"
            "It was not opened. Fetch it again, or find out which of the two is meant."
        )


class UnsafeModelError(PipelineError):
    """A registered model would be loaded by something other than ONNX Runtime, which could run its code."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"MLmodel: expected an ONNX model as `make register` makes it, found {found}.\n"
            "Nothing of it was loaded. Find out who registered it; `make register` registers the model in place."
        )


class ExposedError(PipelineError):
    """A server is asked to listen beyond this machine without what that takes."""

    def __init__(self, host: str, expected: str, found: str) -> None:
        super().__init__(
            f"--host {host} reaches beyond this machine: expected {expected}, found {found}.\n"
            "Nothing was started. Leave --host out to serve this machine alone."
        )


class NoVersionError(PipelineError):
    """An alias of the registered model names no version."""

    def __init__(self, model: str, alias: str, todo: str) -> None:
        super().__init__(f"{model}: expected a version with the alias {alias}, found none.\nNothing was changed. {todo}")


class NoChampionError(PipelineError):
    """There is no champion where one is to be expected."""

    def __init__(self, model: str, uri: str) -> None:
        super().__init__(
            f"{model}: expected a champion in the MLflow store {uri}, found none: a wrong or a lost store looks like this.\n"
            "Nothing was promoted. Check MLFLOW_TRACKING_URI; if there has never been a champion: `make promote FIRST=1`."
        )


class ReleaseError(PipelineError):
    """A git tag cannot be made for a champion."""

    def __init__(self, expected: str, found: str, todo: str) -> None:
        super().__init__(f"git tag: expected {expected}, found {found}.\nThe registry's aliases stay as they are. {todo}")


class CheckoutError(PipelineError):
    """A command of git or DVC fails."""

    def __init__(self, command: str, found: str) -> None:
        super().__init__(
            f"`{command}`: expected it to succeed, found: {found}.\n"
            "The branch at its remote is as it was. Mend this and repeat: what was done is not done twice."
        )


class DamagedError(PipelineError):
    """Files that DVC keeps, or has put in place, are not what they were."""

    def __init__(self, damaged: Sequence[Path]) -> None:
        lines = "".join(f"\n  {path}" for path in damaged)
        super().__init__(
            f"expected every file to be what DVC recorded of it, found {len(damaged)} altered:{lines}\n"
            "What was altered in the cache is out of it. `dvc repro` takes these from where they are whole, or makes them "
            "again; `dvc repro --pull` looks in the remote, too."
        )


class TurnError(PipelineError):
    """A turn of retraining cannot start, or cannot go on."""

    def __init__(self, expected: str, found: str, todo: str) -> None:
        super().__init__(f"retrain: expected {expected}, found {found}.\nNothing was published. {todo}")


class UnreadablePictureError(PipelineError):
    """A file that the model is asked about holds no image that it takes."""

    def __init__(self, path: Path, expected: str, found: str) -> None:
        super().__init__(f"{path}: expected {expected}, found {found}.\nThe model did not see it. Mend it, or leave it out.")


class BusyPortError(PipelineError):
    """A server cannot listen where it is to."""


class MissingExtraError(PipelineError):
    """A package is not there that only some commands need."""

    def __init__(self, package: str, target: str) -> None:
        super().__init__(
            f"{package}: expected this package, found none.\nNothing was started. `{target}` installs it and what it needs."
        )


class SweepError(PipelineError):
    """A sweep cannot begin or go on."""

    def __init__(self, expected: str, found: str, remedy: str) -> None:
        super().__init__(f"sweep: expected {expected}, found {found}.\nNo trial was started. {remedy}")


class ClusterError(PipelineError):
    """RAY_ADDRESS names no cluster that this machine is of."""

    def __init__(self, address: str, found: str) -> None:
        super().__init__(
            f"RAY_ADDRESS={address}: expected host:port of a Ray cluster that this machine is of, found: {found}\n"
            "Nothing was started. `ray start --address=host:port` here joins a cluster, with RAY_AUTH_MODE=token if it asks "
            "for a token. Without RAY_ADDRESS this machine does."
        )


class OfferError(PipelineError):
    """DVC does not take the experiment that a sweep offers."""

    def __init__(self, found: str, command: str) -> None:
        super().__init__(
            f"sweep: expected DVC to queue the best trial as an experiment, found: {found}\n"
            f"The sweep is complete, its table and picture are written. Once DVC is mended: {command}"
        )


class ScoreError(PipelineError):
    """Scores cannot go where they were to go."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"{expected}, found {found}.\nWhat is there is untouched. Give another --out, or empty that folder.")


class TooFewImagesError(PipelineError):
    """So few images say nothing about drift."""

    def __init__(self, source: str, expected: int, found: int) -> None:
        super().__init__(
            f"{source}: expected at least {expected:,} images (drift.minimum_images), found {found:,}.\n"
            "Nothing was compared. Collect more, or lower the minimum."
        )
