"""The errors a person can mend. Each owns its message: what was expected, what was found, what follows, what to do."""

from collections.abc import Sequence
from pathlib import Path


def first_line(error: Exception, most: int = 200) -> str:
    """What another's error says, in a line of at most `most` characters; its name where it says nothing."""
    return str(error).strip().partition("\n")[0][:most] or type(error).__name__


class PipelineError(Exception):
    """Base of everything that ends a verb with a clear line and exit code 1 instead of a traceback."""


class InvalidParamsError(PipelineError):
    """params.yaml is missing, is not YAML, or holds a key or a value that the pipeline does not accept."""

    def __init__(self, path: Path, problems: Sequence[str]) -> None:
        listed = "; ".join(problems)
        super().__init__(f"{path}: {listed}.\nNothing was run. Correct the file, or `git checkout {path}`.")


class MissingInputError(PipelineError):
    """A file that an earlier stage writes is not there."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path}: expected this file from an earlier stage, found none.\nNothing was written. `dvc repro` makes it."
        )


class UnusableInputError(PipelineError):
    """A file that an earlier stage wrote is there, but is not what that stage wrote."""

    def __init__(self, path: Path, expected: str, found: str) -> None:
        super().__init__(
            f"{path}: expected {expected}, found {found}: it changed after it was written.\n"
            f"Nothing was written. Delete {path} and run `dvc repro`."
        )
