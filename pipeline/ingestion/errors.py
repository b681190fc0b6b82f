"""Errors of sources and extra data sets."""

from collections.abc import Mapping

from pipeline.core.errors import PipelineError


class SourceRefusedError(PipelineError):
    """A source did not provide a file. The next source is tried."""


class NoSourceError(PipelineError):
    """No source provided a file."""

    def __init__(self, name: str, refusals: Mapping[str, str]) -> None:
        lines = "".join(f"\n  {source}: {reason}" for source, reason in refusals.items())
        super().__init__(
            f"{name}: expected one of {len(refusals)} sources to have it, none did:{lines}\n"
            "The arrays already in place are untouched. Add a source to fetch.sources in params.yaml."
        )


class ExtraDatasetError(PipelineError):
    """An extra data set is not available, or does not fit the base."""

    def __init__(self, name: str, source: str, reason: str) -> None:
        super().__init__(
            f"extra {name}, {source}: {reason}.\n"
            "The arrays already in place are untouched. Fix the data set, or its entry of fetch.extra in params.yaml."
        )
