"""Errors of sweeps, clusters and batch predictions."""

from pipeline.core.errors import PipelineError


class MissingExtraError(PipelineError):
    """A package is not there that only some commands need."""

    def __init__(self, package: str, target: str) -> None:
        super().__init__(
            f"{package}: expected this package, found none.\nNothing was started. `{target}` installs it and what it needs."
        )


class SweepError(PipelineError):
    """A sweep cannot begin or go on."""

    def __init__(self, expected: str, found: str, remedy: str) -> None:
        super().__init__(f"sweep: expected {expected}, found {found}.\nNo trial was started. {remedy}")


class ClusterError(PipelineError):
    """RAY_ADDRESS names no cluster that this machine is of."""

    def __init__(self, address: str, found: str) -> None:
        super().__init__(
            f"RAY_ADDRESS={address}: expected host:port of a Ray cluster that this machine is of, found: {found}\n"
            "Nothing was started. `ray start --address=host:port` here joins a cluster, with RAY_AUTH_MODE=token if it asks "
            "for a token. Without RAY_ADDRESS this machine does."
        )


class OfferError(PipelineError):
    """DVC does not take the experiment that a sweep offers."""

    def __init__(self, found: str, command: str) -> None:
        super().__init__(
            f"sweep: expected DVC to queue the best trial as an experiment, found: {found}\n"
            f"The sweep is complete, its table and picture are written. Once DVC is mended: {command}"
        )


class ScoreError(PipelineError):
    """Scores cannot go where they were to go."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"{expected}, found {found}.\nWhat is there is untouched. Give another --out, or empty that folder.")
