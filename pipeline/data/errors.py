"""Errors about the arrays and the files that hold them."""

from pipeline.core.errors import PipelineError


class IdxError(PipelineError):
    """Bytes that are not the IDX file, or the array of an npz file, that they should be."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}, found {found}")
        self.expected = expected
        self.found = found


class MismatchError(PipelineError):
    """Files that are each well formed do not belong together."""

    def __init__(self, what: str, expected: str, found: str) -> None:
        super().__init__(
            f"{what}: expected {expected}, found {found}.\n"
            "The arrays already in place are untouched. Check fetch.files and fetch.sources in params.yaml."
        )
