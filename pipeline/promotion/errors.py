"""Errors of promotion, retraining and the repository."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.core.errors import PipelineError


class NoChampionError(PipelineError):
    """There is no champion where one is to be expected."""

    def __init__(self, model: str, uri: str) -> None:
        super().__init__(
            f"{model}: expected a champion in the MLflow store {uri}, found none: a wrong or a lost store looks like this.\n"
            "Nothing was promoted. Check MLFLOW_TRACKING_URI; if there has never been a champion: `make promote FIRST=1`."
        )


class GitTagError(PipelineError):
    """A git tag cannot be made for a champion."""

    def __init__(self, expected: str, found: str, todo: str) -> None:
        super().__init__(f"git tag: expected {expected}, found {found}.\nThe registry's aliases stay as they are. {todo}")


class RepositoryError(PipelineError):
    """A command of git or DVC fails."""

    def __init__(self, command: str, found: str) -> None:
        super().__init__(
            f"`{command}`: expected it to succeed, found: {found}.\n"
            "The branch at its remote is as it was. Mend this and repeat: what was done is not done twice."
        )


class DamagedError(PipelineError):
    """Files that DVC keeps, or has put in place, are not what they were."""

    def __init__(self, damaged: Sequence[Path]) -> None:
        lines = "".join(f"\n  {path}" for path in damaged)
        super().__init__(
            f"expected every file to be what DVC recorded of it, found {len(damaged)} altered:{lines}\n"
            "What was altered in the cache is out of it. `dvc repro` takes these from where they are whole, or makes them "
            "again; `dvc repro --pull` looks in the remote, too."
        )


class RetrainError(PipelineError):
    """A retraining cycle cannot start or continue."""

    def __init__(self, expected: str, found: str, todo: str) -> None:
        super().__init__(f"retrain: expected {expected}, found {found}.\nNothing was published. {todo}")
