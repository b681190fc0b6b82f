"""Errors of sweeps, clusters and batch predictions."""

from pipeline.core.errors import PipelineError


class MissingExtraError(PipelineError):
    """An optional package is not installed."""

    def __init__(self, package: str, target: str) -> None:
        super().__init__(
            f"{package}: expected this package, found none.\nNothing was started. `{target}` installs it and its dependencies."
        )


class SweepError(PipelineError):
    """A sweep cannot start or resume."""

    def __init__(self, expected: str, found: str, remedy: str) -> None:
        super().__init__(f"sweep: expected {expected}, found {found}.\nNo trial was started. {remedy}")


class ClusterError(PipelineError):
    """RAY_ADDRESS does not name a cluster that this machine belongs to."""

    def __init__(self, address: str, found: str) -> None:
        super().__init__(
            f"RAY_ADDRESS={address}: expected host:port of a Ray cluster that this machine belongs to, found: {found}\n"
            "Nothing was started. Join the cluster with `ray start --address=host:port`, and set RAY_AUTH_MODE=token if it "
            "needs a token. Or unset RAY_ADDRESS to use this machine only."
        )


class QueueError(PipelineError):
    """DVC cannot queue the best trial of a sweep."""

    def __init__(self, found: str, command: str) -> None:
        super().__init__(
            f"sweep: expected DVC to queue the best trial as an experiment, found: {found}\n"
            f"The sweep is complete, and its table and plot are written. Fix the cause and run: {command}"
        )


class OutputFolderError(PipelineError):
    """A folder cannot hold the predictions."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"{expected}, found {found}.\nThe folder was not changed. Give another --out, or empty the folder.")
