"""Open the model that a file path or an address of the MLflow registry names, after checking its hash."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.core import files
from pipeline.core.errors import UnusableInputError
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.inference.onnx_model import OnnxModel
from pipeline.serving.errors import GivenModelError, HashMismatchError

_NAME = "model.onnx"


def open_model(source: str, sha256: str | None, params: Params, paths: Paths) -> OnnxModel:
    """Open an ONNX file, a folder with model.onnx, or `models:/NAME@ALIAS` or `models:/NAME/VERSION` of the registry.

    Raises:
        GivenModelError: the path of a person's own is no such file or folder.
        HashMismatchError: the file's SHA-256 differs from `sha256`, or from the one that its model version is tagged with.
    """
    if not source.startswith("models:/"):
        return _from_path(Path(source), sha256, paths)
    from pipeline.tracking import registry  # importing MLflow takes seconds, and a file does not need it
    from pipeline.tracking.connection import connected

    with connected(params, paths), TemporaryDirectory(prefix="predict-") as folder:
        path = registry.download_uri(source, Path(folder)) / _NAME
        return _verified(path, source, [sha256, registry.tagged_sha256(source)])


def _from_path(path: Path, sha256: str | None, paths: Paths) -> OnnxModel:
    file = path / _NAME if path.is_dir() else path
    if file == paths.onnx:  # the pipeline's own: its errors say which stage writes it
        return _verified(file, str(path), [sha256])
    if not file.is_file():
        raise GivenModelError(str(path), "this file" if file is path else f"a folder with {_NAME}", "none")
    try:
        return _verified(file, str(path), [sha256])
    except UnusableInputError as error:
        raise GivenModelError(str(path), error.expected, error.found) from error


def _verified(path: Path, source: str, hashes: Sequence[str | None]) -> OnnxModel:
    for expected in hashes:
        if expected is not None and (found := files.sha256(path)) != expected.lower():
            raise HashMismatchError(source, expected, found)
    return OnnxModel(path)
