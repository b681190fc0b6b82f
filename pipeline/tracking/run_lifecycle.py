"""Open runs, end them, and mark interrupted ones as KILLED."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

import mlflow
from mlflow.entities import RunStatus
from mlflow.exceptions import MlflowException

from pipeline.core import signals
from pipeline.tracking import run_owner
from pipeline.tracking.run_owner import RunOwner


def open_run(name: str | None, here: RunOwner, experiment: str, *, system_metrics: bool = False) -> str:
    """Open a run of the experiment, make it the active run, and return its id.

    MLflow's active experiment does not do: of processes that create the experiment at the same time, one may log elsewhere.
    """
    run = mlflow.start_run(run_name=name, tags=here.tags(), experiment_id=experiment, log_system_metrics=system_metrics)
    return str(run.info.run_id)


@contextmanager
def _killing(kill: Callable[[], None]) -> Iterator[None]:
    """Call `kill` if Ctrl-C or SIGTERM interrupts this block, also if another thread ends the process."""
    with signals.last(kill):
        try:
            yield
        except KeyboardInterrupt:
            with suppress(MlflowException):
                kill()
            raise


def opening(experiment: str, here: RunOwner) -> AbstractContextManager[None]:
    """Mark the runs of this process as KILLED if it is interrupted before it knows the id of the run that it opens."""
    return _killing(lambda: kill_running(experiment, here, lambda owner: owner == here))


@contextmanager
def ending(run_id: str, end: Callable[[int], None]) -> Iterator[None]:
    """Call `end` with FINISHED, FAILED or, if interrupted, KILLED.

    `with mlflow.start_run()` would mark an interrupted run as FAILED.
    """
    status = RunStatus.FAILED
    with _killing(lambda: kill(run_id)):  # also before the run is active, and while `end` runs
        try:
            yield
            status = RunStatus.FINISHED
        except KeyboardInterrupt:
            status = RunStatus.KILLED
            raise
        finally:
            end(status)


def end(status: int) -> None:
    """End the active run. If the run failed, that error is reported, and not an error of the store while ending it."""
    try:
        mlflow.end_run(RunStatus.to_string(status))
    except MlflowException:
        if status == RunStatus.FINISHED:
            raise


def kill(run_id: str) -> None:
    """Mark the run as KILLED. Works in any thread; only the thread that opened the run knows it as active."""
    mlflow.MlflowClient().set_terminated(run_id, RunStatus.to_string(RunStatus.KILLED))


def end_orphans(experiment: str, here: RunOwner) -> None:
    """Mark as KILLED the runs of this checkout whose process is gone, for example after a power cut."""
    kill_running(experiment, here, lambda owner: run_owner.is_gone(owner, here))


def kill_running(experiment: str, here: RunOwner, whose: Callable[[RunOwner], bool]) -> None:
    """Mark as KILLED the RUNNING runs of this machine for whose owner `whose` returns True."""
    running = mlflow.search_runs([experiment], "attributes.status = 'RUNNING'", output_format="list")
    for run in running:
        owner = run_owner.from_tags(run.data.tags)
        if owner and owner.host == here.host and whose(owner):
            kill(run.info.run_id)
