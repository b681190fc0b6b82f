"""The MLflow model registry: versions of the exported model, their aliases, and what is left of them."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import mlflow
from mlflow.exceptions import MlflowException

from pipeline.core import files
from pipeline.tracking.errors import AlteredModelError, NoVersionError
from pipeline.tracking.run_content import ONNX_SHA256

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
INT8_SHA256, LINEAGE, SEED = "int8_sha256", "lineage", "seed"  # tags of a version, as is ONNX_SHA256
WITHDRAWN, GIT_TAG = "withdrawn", "release"  # tags of a version that hold for all versions of the same model

_TODO = {  # if no version has the alias
    CHAMPION: "`make promote` decides on the model of this tree; `make serve ALIAS=challenger` serves it before that.",
    CHALLENGER: "`make register` gives it to the model of this tree, unless that is the champion.",
    PREVIOUS: "No champion has replaced another yet.",
}


class Hashes(NamedTuple):
    """The SHA-256 of the files that make a model: model.onnx and model.int8.onnx. Two versions with the same are one model."""

    onnx: str
    int8: str = ""  # where export left it out


class Version(NamedTuple):
    """A version of the registered model in the store."""

    name: str
    number: int
    run_id: str
    tags: Mapping[str, str]

    @property
    def hashes(self) -> Hashes:
        return Hashes(self.tags.get(ONNX_SHA256, ""), self.tags.get(INT8_SHA256, ""))


class Condition(NamedTuple):
    """What the store still holds of a version."""

    version: Version
    md5: str | None  # of model.onnx; None if the store lost or altered a file of the version
    run: bool

    @property
    def files(self) -> bool:
        return self.md5 is not None

    @property
    def complete(self) -> bool:
        return self.files and self.run


def numbered(name: str, number: int) -> Version | None:
    """The version with the number, or None."""
    return _found(lambda client: client.get_model_version(name, str(number)))


def aliased(name: str, alias: str) -> Version | None:
    """The version with the alias, or None."""
    return _found(lambda client: client.get_model_version_by_alias(name, alias))


def _found(get: Callable[[mlflow.MlflowClient], Any]) -> Version | None:
    try:
        found = get(mlflow.MlflowClient())
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return _version(found, found.tags)


def _version(found: Any, tags: Mapping[str, str]) -> Version:
    return Version(found.name, int(found.version), found.run_id, dict(tags))


def versions_of(name: str, model: Hashes) -> list[Version]:
    """All versions of the model with these hashes."""
    listed = mlflow.MlflowClient().search_model_versions(f"tags.`{ONNX_SHA256}` = '{model.onnx}'")
    versions = [_version(found, found.tags) for found in listed if found.name == name]
    return [version for version in versions if version.hashes == model]


def tag_of_model(version: Version, key: str) -> str | None:
    """The tag of this version, or of another one of the same model; None if none of them has it."""
    others = versions_of(version.name, version.hashes)
    return next((each.tags[key] for each in (version, *others) if key in each.tags), None)


def untag_model(version: Version, key: str) -> None:
    """Remove the tag from all versions of the same model."""
    for each in versions_of(version.name, version.hashes):
        if key in each.tags:
            mlflow.MlflowClient().delete_model_version_tag(each.name, str(each.number), key)


def condition(version: Version) -> Condition:
    """Look what the store still holds of a version."""
    with TemporaryDirectory(prefix="version-") as folder:
        try:
            md5 = files.md5(download(version, Path(folder))[0])
        except AlteredModelError:
            md5 = None
    return Condition(version, md5, run_exists(version))


def best(name: str, model: Hashes) -> Condition | None:
    """The version of a model of which the store holds most, among equals the champion or the newest; None if there is none."""
    current = aliased(name, CHAMPION)

    def rank(each: Condition) -> tuple[bool, bool, bool, int]:
        is_champion = current is not None and each.version.number == current.number
        return each.files, each.run, is_champion, each.version.number

    return max(map(condition, versions_of(name, model)), key=rank, default=None)


def named(name: str, alias: str) -> Version:
    """The version with the alias.

    Raises:
        NoVersionError: there is none.
    """
    found = aliased(name, alias)
    if found is None:
        raise NoVersionError(name, alias, _TODO.get(alias, "Use one of the aliases champion, challenger and previous."))
    return found


def download(version: Version, folder: Path) -> tuple[Path, Path | None]:
    """Copy the version's model.onnx and model.int8.onnx to `folder`; None for int8 where export left it out.

    Raises:
        AlteredModelError: a file was altered or removed after its registration.
    """
    try:
        source = download_uri(f"models:/{version.name}/{version.number}", folder)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"):
            raise
        source = folder  # `mlflow gc` removed the logged model, whose files these were
    paths = (source / "model.onnx", source / "model.int8.onnx" if version.hashes.int8 else None)
    for path, expected in zip(filter(None, paths), version.hashes, strict=False):
        found = files.sha256(path) if path.is_file() else ""
        if not expected or found != expected:
            raise AlteredModelError(f"{version.name} version {version.number}", path.name, expected, found)
    for name in ("MLmodel", "contract.json"):  # without them neither MLflow nor `make serve` opens the model
        if not (source / name).is_file():
            raise AlteredModelError(f"{version.name} version {version.number}", name, "", "")
    return paths


def download_uri(uri: str, folder: Path) -> Path:
    """Copy the model that a `models:/` URI names; return the folder with its files."""
    return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))


def tagged_sha256(uri: str) -> str | None:
    """The tag with the SHA-256 of model.onnx, of the version that `models:/name@alias` or `models:/name/number` names.

    None for another URI, and for a version without that tag.
    """
    named = re.fullmatch(r"models:/([^/@]+)(?:@([^/]+)|/(\d+))", uri)
    if named is None:
        return None
    (name, alias, number), client = named.groups(), mlflow.MlflowClient()
    found = client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, number)
    return dict(found.tags).get(ONNX_SHA256)


def run_exists(version: Version) -> bool:
    """Whether the store holds the run that created the version, and the run is not deleted."""
    try:
        return bool(mlflow.get_run(version.run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


def tag(version: Version, key: str, value: str) -> None:
    mlflow.MlflowClient().set_model_version_tag(version.name, str(version.number), key, value)
