"""Open the model that a file path or an address of the MLflow registry names, after checking its hash."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.core import files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.inference.onnx_model import OnnxModel
from pipeline.serving.errors import HashMismatchError


def open_model(source: str, sha256: str | None, params: Params, paths: Paths) -> OnnxModel:
    """Open an ONNX file, or `models:/NAME@ALIAS` or `models:/NAME/VERSION` of the registry.

    Raises:
        HashMismatchError: the file's SHA-256 differs from `sha256`, or from the one that its model version is tagged with.
    """
    if not source.startswith("models:/"):
        return _verified(Path(source), source, [sha256])
    from pipeline.tracking import registry  # importing MLflow takes seconds, and a file does not need it
    from pipeline.tracking.connection import connected

    with connected(params, paths), TemporaryDirectory(prefix="predict-") as folder:
        path = registry.download_uri(source, Path(folder)) / "model.onnx"
        return _verified(path, source, [sha256, registry.tagged_sha256(source)])


def _verified(path: Path, source: str, hashes: Sequence[str | None]) -> OnnxModel:
    for expected in hashes:
        if expected is not None and (found := files.sha256(path)) != expected.lower():
            raise HashMismatchError(source, expected, found)
    return OnnxModel(path)
