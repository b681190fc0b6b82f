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
            "The model is not used. Get the model and its contract.json again, or, in a checkout, run `make register`, which "
            "registers both, and promote that."
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
            "Nothing was predicted. Give --model an ONNX file or a folder with model.onnx; `predict` also takes "
            "models:/NAME@ALIAS."
        )


class NoCheckoutError(PipelineError):
    """A model is looked for in a checkout, and the current folder is none."""

    def __init__(self, expected: str) -> None:
        super().__init__(
            f"--model: expected {expected}, found a folder without params.yaml.\n"
            "No model was opened. Give --model an ONNX file, or change to a checkout of the pipeline."
        )


class UnknownLayoutError(PipelineError):
    """Nothing says how pictures become images of the model."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what}: expected contract.json beside the model, to say the layout of its images, or --layout; found neither.\n"
            "Nothing was predicted for it. Add --layout mnist if they are light ink on black, centred as MNIST's are; "
            "else --layout as_is."
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
