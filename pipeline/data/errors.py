"""Errors about the arrays and the files that hold them."""

from pipeline.core.errors import PipelineError


class IdxError(PipelineError):
    """Bytes are not the expected IDX file, or not the expected array of an npz file."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}, found {found}")
        self.expected = expected
        self.found = found


class MissingArrayError(IdxError):
    """An npz file has other arrays than the expected ones."""


class ImageFileError(PipelineError):
    """Bytes are not an image file that can be decoded."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}, found {found}")
        self.expected = expected
        self.found = found


class MismatchError(PipelineError):
    """Files are valid but do not belong together."""

    def __init__(self, what: str, expected: str, found: str) -> None:
        super().__init__(
            f"{what}: expected {expected}, found {found}.\n"
            "The arrays already in place are untouched. Check fetch.files and fetch.sources in params.yaml."
        )
