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


class BrokenContractError(PipelineError):
    """A model does not keep what its contract.json states."""

    def __init__(self, model: str, expected: str, found: str) -> None:
        super().__init__(
            f"{model}: expected {expected}, found {found}.\n"
            "The model is not served. `make register` registers the current one with its contract; promote that."
        )


class ExposedError(PipelineError):
    """A server would listen beyond this machine without host names or a token."""

    def __init__(self, host: str, expected: str, found: str) -> None:
        super().__init__(
            f"--host {host} reaches beyond this machine: expected {expected}, found {found}.\n"
            "The server was not started. Leave out --host to serve this machine only."
        )


class GivenModelError(PipelineError):
    """What a person named as a model is none. It may be any file of theirs, so nothing advises to delete it."""

    def __init__(self, source: str, expected: str, found: str) -> None:
        super().__init__(
            f"{source}: expected {expected}, found {found}.\n"
            "Nothing was predicted. Give --model an ONNX file, a folder with model.onnx, or models:/NAME@ALIAS."
        )


class UnreadableImageError(PipelineError):
    """A file holds no images that the model accepts."""

    def __init__(self, path: Path, expected: str, found: str) -> None:
        super().__init__(f"{path}: expected {expected}, found {found}.\nNothing was predicted for it. Fix or remove the file.")


class BusyPortError(PipelineError):
    """A server cannot listen on its port."""


class WorkersError(PipelineError):
    """The processes of a server end as soon as they start."""

    def __init__(self, code: int) -> None:
        super().__init__(
            f"workers: expected them to serve, found them ended with exit code {code} again and again.\n"
            "The server was ended. Start it without --workers to see why."
        )
