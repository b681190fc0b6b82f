"""Errors that you can fix. Each message says what was expected, what was found, the consequence, and what to do."""

from collections.abc import Sequence
from pathlib import Path


def first_line(error: Exception, most: int = 200) -> str:
    """The first line of the message, at most `most` characters; the name of the error if it has no message."""
    return str(error).strip().partition("\n")[0][:most] or type(error).__name__


class PipelineError(Exception):
    """Base of the errors that end a verb with their message and exit code 1, without a traceback."""


class InvalidParamsError(PipelineError):
    """params.yaml is missing, is not YAML, or has an unknown key or a wrong value."""

    def __init__(self, path: Path, problems: Sequence[str]) -> None:
        listed = "; ".join(problems)
        super().__init__(f"{path}: {listed}.\nNothing was run. Fix the file, or restore it: `git checkout {path}`.")


class MissingInputError(PipelineError):
    """A file that an earlier stage writes does not exist."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path}: expected this file from an earlier stage, found none.\nNothing was written. `dvc repro` creates it."
        )


class MissingPackageError(PipelineError):
    """A package that a verb needs is not installed, as after an installation without extras."""

    def __init__(self, package: str) -> None:
        super().__init__(
            f"{package}: expected this package, found none.\n"
            "Nothing more was done. In a checkout, run `make setup`. Elsewhere, install the wheel with the extra that brings "
            "it: `pip install 'WHEEL[train]'`."
        )


class UnusableInputError(PipelineError):
    """A file that an earlier stage wrote has changed since."""

    def __init__(self, path: Path, expected: str, found: str) -> None:
        self.expected, self.found = expected, found
        super().__init__(
            f"{path}: expected {expected}, found {found}: it changed after it was written.\n"
            f"Nothing was written. Delete {path} and run `dvc repro`."
        )
