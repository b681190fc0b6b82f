"""Errors of serving and of the images that a model is given."""

from pathlib import Path

from pipeline.core.errors import PipelineError


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


class UnreadableImageError(PipelineError):
    """A file that the model is asked about holds no image that it takes."""

    def __init__(self, path: Path, expected: str, found: str) -> None:
        super().__init__(f"{path}: expected {expected}, found {found}.\nThe model did not see it. Mend it, or leave it out.")


class BusyPortError(PipelineError):
    """A server cannot listen where it is to."""
