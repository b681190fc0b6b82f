"""Errors of the server and of the image files that people give to a model."""

from pathlib import Path

from pipeline.core.errors import PipelineError


class HashMismatchError(PipelineError):
    """The SHA-256 of a model file is not the expected one."""

    def __init__(self, source: str, expected: str, found: str) -> None:
        super().__init__(
            f"{source}: expected the file with SHA-256 {expected}, found {found}.\n"
            "The file was not opened. Download it again, or check which hash is correct."
        )


class UnsafeModelError(PipelineError):
    """Loading a registered model could run code that comes with it."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"MLmodel: expected an ONNX model as `make register` logs it, found {found}.\n"
            "The model was not loaded. Check who registered it; `make register` registers the current model instead."
        )


class ExposedError(PipelineError):
    """A server would listen beyond this machine without host names or a token."""

    def __init__(self, host: str, expected: str, found: str) -> None:
        super().__init__(
            f"--host {host} reaches beyond this machine: expected {expected}, found {found}.\n"
            "The server was not started. Leave out --host to serve this machine only."
        )


class UnreadableImageError(PipelineError):
    """A file holds no images that the model accepts."""

    def __init__(self, path: Path, expected: str, found: str) -> None:
        super().__init__(f"{path}: expected {expected}, found {found}.\nNothing was predicted for it. Fix or remove the file.")


class BusyPortError(PipelineError):
    """A server cannot listen on its port."""
