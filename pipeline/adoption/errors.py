"""Errors of adopting a data set."""

from pipeline.core.errors import PipelineError


class AdoptError(PipelineError):
    """The data cannot be adopted as they are."""

    def __init__(self, what: str, expected: str, found: str, remedy: str) -> None:
        super().__init__(f"{what}: expected {expected}, found {found}.\nparams.yaml was not changed. {remedy}")
