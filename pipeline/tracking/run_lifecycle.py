"""How runs are opened, ended, and marked as killed."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

import mlflow
from mlflow.entities import RunStatus
from mlflow.exceptions import MlflowException

from pipeline.core import signals
from pipeline.tracking import run_owner
from pipeline.tracking.run_owner import RunOwner


def open_run(name: str | None, here: RunOwner) -> str:
    """Open a run, which is the active one then; return its identifier."""
    return str(mlflow.start_run(run_name=name, tags=here.tags()).info.run_id)


@contextmanager
def _killing(kill: Callable[[], None]) -> Iterator[None]:
    """Have `kill` called where Ctrl-C or SIGTERM ends the process, from the side, too."""
    with signals.last(kill):
        try:
            yield
        except KeyboardInterrupt:
            with suppress(MlflowException):
                kill()
            raise


def opening(experiment: str, here: RunOwner) -> AbstractContextManager[None]:
    """Have a run that is interrupted while only the store knows its identifier be a KILLED one as well."""
    return _killing(lambda: kill_running(experiment, here, lambda owner: owner == here))


@contextmanager
def ending(run_id: str, end: Callable[[int], None]) -> Iterator[None]:
    """Have `end` end the run as FINISHED or FAILED, or as KILLED where it is interrupted.

    MLflow's own way, `with mlflow.start_run()`, calls whatever is raised inside a failure.
    """
    status = RunStatus.FAILED
    with _killing(lambda: kill(run_id)):  # it may be interrupted before it is the active run, and in its end, too
        try:
            yield
            status = RunStatus.FINISHED
        except KeyboardInterrupt:
            status = RunStatus.KILLED
            raise
        finally:
            end(status)


def end(status: int) -> None:
    """End the active run. Of one that failed anyway that is told, and not that the store does not take its end."""
    try:
        mlflow.end_run(RunStatus.to_string(status))
    except MlflowException:
        if status == RunStatus.FINISHED:
            raise


def kill(run_id: str) -> None:
    """Mark the run as KILLED from any thread: only the one that opened it knows it as active."""
    mlflow.MlflowClient().set_terminated(run_id, RunStatus.to_string(RunStatus.KILLED))


def end_orphans(experiment: str, here: RunOwner) -> None:
    """End the runs of this checkout whose process is gone, as after a power cut. Others' runs go on, and so do those alive."""
    kill_running(experiment, here, lambda owner: run_owner.is_gone(owner, here))


def kill_running(experiment: str, here: RunOwner, whose: Callable[[RunOwner], bool]) -> None:
    """Mark as KILLED those runs of this machine that are RUNNING and whose runner `whose` says yes to."""
    on_this_machine = f"attributes.status = 'RUNNING' and tags.`{run_owner.HOST}` = '{here.host}'"
    for run in mlflow.MlflowClient().search_runs([experiment], on_this_machine, max_results=1000):
        owner = run_owner.from_tags(run.data.tags)
        if owner and whose(owner):
            kill(run.info.run_id)
