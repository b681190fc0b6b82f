"""Errors of promotion, retraining and the repository."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.core.errors import PipelineError


class NoChampionError(PipelineError):
    """The store has no champion that can be served, and nothing says that it should have none."""

    def __init__(self, model: str, uri: str, found: str, todo: str) -> None:
        super().__init__(
            f"{model}: expected a champion in the MLflow store {uri} that can be served, found: {found}.\n"
            f"Nothing was promoted. {todo}."
        )


class ChampionChangedError(PipelineError):
    """Another promotion or rollback moved the champion while this one decided."""

    def __init__(self, model: str, expected: int | None, found: int | None) -> None:
        super().__init__(
            f"{model}: expected version {expected or 'none'} to be champion as when the decision began, found version "
            f"{found or 'none'}.\nNothing was promoted. Somebody else promotes or rolls back: rerun `make promote` to compare "
            "with the new champion."
        )


class GitTagError(PipelineError):
    """A champion cannot get its git tag."""

    def __init__(self, expected: str, found: str, todo: str) -> None:
        super().__init__(f"git tag: expected {expected}, found {found}.\nThe registry's aliases are not affected. {todo}")


class RepositoryError(PipelineError):
    """A git or DVC command failed. `reason` is what it said."""

    def __init__(self, command: str, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"`{command}`: expected it to succeed, found:{_sentence(reason)}\nFix this and rerun; completed steps are skipped."
        )


class UpstreamError(PipelineError):
    """The checkout cannot publish to the branch that it tracks."""

    def __init__(self, expected: str, found: str, todo: str) -> None:
        super().__init__(f"git: expected {expected}, found{_sentence(found)}\nNothing was published. {todo}")


class DvcRemoteError(PipelineError):
    """Clones do not know where the outputs are."""

    def __init__(self, expected: str, found: str, todo: str) -> None:
        super().__init__(f"DVC remote: expected {expected}, found{_sentence(found)}\nNothing was published. {todo}")


class NotPublishedError(PipelineError):
    """The remote was asked after the push, and does not answer with the champion."""

    def __init__(self, upstream: str, found: str) -> None:
        super().__init__(
            f"{upstream}: expected it to answer with this model, found:{_sentence(found)}\n"
            "The champion is not published. Fix this and rerun; completed steps are skipped."
        )


class DamagedError(PipelineError):
    """Files in DVC's cache or in the working tree differ from what DVC recorded."""

    def __init__(self, damaged: Sequence[Path]) -> None:
        lines = "".join(f"\n  {path}" for path in damaged)
        super().__init__(
            f"expected every file to have the hash that DVC recorded, found {len(damaged)} altered:{lines}\n"
            "Altered files were removed from the cache. Run `dvc repro`: it restores these files or builds them again. "
            "`dvc repro --pull` also looks in the remote."
        )


class RetrainError(PipelineError):
    """A retraining cycle cannot start or continue."""

    def __init__(self, expected: str, found: str, todo: str) -> None:
        super().__init__(f"retrain: expected {expected}, found{_sentence(found)}\nNothing was published. {todo}")


def _sentence(found: str) -> str:
    """A single line in the sentence, which it ends; or a block of quoted lines as it is."""
    return found if found.startswith("\n") else f" {found.rstrip('.')}."
