"""Open the model that a file path or an address of the MLflow registry names, after checking its hash."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.core import files
from pipeline.core.errors import UnusableInputError
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.serving.errors import GivenModelError, HashMismatchError, NoCheckoutError
from pipeline.serving.served_model import ServedModel, contract_beside, open_checked

_NAME = "model.onnx"
_THREADS = 0  # one for each core


def open_model(source: str | None, sha256: str | None, params: Params | None, paths: Paths) -> ServedModel:
    """Open an ONNX file, a folder with model.onnx, or `models:/NAME@ALIAS` or `models:/NAME/VERSION` of the registry.

    None is the pipeline's own file. A contract.json beside the file is checked.

    Raises:
        BrokenContractError: the file differs from what the contract.json beside it states.
        NoCheckoutError: `params` is None, and `source` is None or an address of the registry.
        GivenModelError: the path of a person's own is no such file or folder.
        HashMismatchError: the file's SHA-256 differs from `sha256`, or from the one that its model version is tagged with.
    """
    if source is not None and not source.startswith("models:/"):
        return _from_path(Path(source), sha256, paths)
    if params is None:
        raise NoCheckoutError(f"an ONNX file, or a checkout with {source or paths.onnx}")
    if source is None:
        return _from_path(paths.onnx, sha256, paths)
    from pipeline.tracking import registry  # importing MLflow takes seconds, and a file does not need it
    from pipeline.tracking.connection import connected

    with connected(params, paths), TemporaryDirectory(prefix="predict-") as folder:
        path = registry.download_uri(source, Path(folder)) / _NAME
        return _verified(path, source, [sha256, registry.tagged_sha256(source)])


def given_file(path: Path) -> Path:
    """The ONNX file that a person named, itself or by its folder. Raises GivenModelError if there is none."""
    file = path / _NAME if path.is_dir() else path
    if not file.is_file():
        raise GivenModelError(str(path), "this file" if file is path else f"a folder with {_NAME}", "none")
    return file


def _from_path(path: Path, sha256: str | None, paths: Paths) -> ServedModel:
    if paths.onnx in (path, path / _NAME):  # the pipeline's own: its errors say which stage writes it
        return _verified(paths.onnx, str(path), [sha256])
    file = given_file(path)
    try:
        return _verified(file, str(path), [sha256])
    except UnusableInputError as error:
        raise GivenModelError(str(path), error.expected, error.found) from error


def _verified(path: Path, source: str, hashes: Sequence[str | None]) -> ServedModel:
    found = files.sha256(path)
    for expected in hashes:
        if expected is not None and found != expected.lower():
            raise HashMismatchError(source, expected, found)
    return open_checked(path, source, found[:12], contract_beside(path), _THREADS)
