"""MLflow runs: one per pipeline run, live during training, completed by register.

Files are the truth and MLflow shows them: whatever the store lacks is restored from the files.
"""

import io
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import RunStatus, RunTag
from mlflow.exceptions import MlflowException

from pipeline.core import console, files
from pipeline.core.environment import environment
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.core.urls import redacted
from pipeline.data import history
from pipeline.tracking import run_owner
from pipeline.tracking.connection import connected, reason, store_errors
from pipeline.tracking.descriptions import run_name
from pipeline.tracking.run_content import CURVE, describe, log_missing_epochs, log_results
from pipeline.tracking.run_lifecycle import end, end_orphans, ending, open_run, opening

_REBUILT = "rebuilt_from"  # the tag with the original id of a run that the store lost or never had
# During training each request is tried twice at most, with a short timeout. After the server was given up, it gets one last
# request, to end the run. Together with _WAIT_SECONDS an unresponsive server costs half a minute at most.
_IN_TRAINING = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "12", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
_GIVEN_UP = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "2", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
# A training waits this long for the store in total: seconds, or a share of its own time, whichever is more.
_WAIT_SECONDS, _WAIT_SHARE = 4, 0.1


class LiveRun:
    """A run that MLflow shows during training. If the store is slow or stops answering, this warns and training continues."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.live = True
        self.started, self.waited = time.monotonic(), 0.0

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        if not self.live:
            return
        requested = time.monotonic()
        try:
            mlflow.log_metrics({f"{CURVE}{name}": value for name, value in metrics.items()}, step=epoch)
        except MlflowException as error:
            self._give_up(f"stopped answering ({reason(error)})")
            return
        self.waited += time.monotonic() - requested
        if self.waited > max(_WAIT_SECONDS, _WAIT_SHARE * (time.monotonic() - self.started)):
            self._give_up(f"is slow: it took {self.waited:.1f} s of this training")

    def _give_up(self, reason: str) -> None:
        self.live = False
        console.echo("train", f"warning: the MLflow store {reason}; register will complete the run")


@contextmanager
def training_run(params: Params, paths: Paths, chosen: Mapping[str, Any] | None = None) -> Iterator[LiveRun]:
    """Open a run, log the parameters and the data to it, and end it as FINISHED, FAILED or KILLED.

    Args:
        chosen: what train chose, as in `run_content.describe`.

    Raises:
        TrackingError: the store does not answer. Other errors are those of `store_errors`. All come before the training.
    """
    with connected(params, paths) as experiment:
        here = run_owner.this_process(paths.store)
        end_orphans(experiment, here)
    with opening(experiment, here):
        with store_errors(paths):
            run_id = open_run(run_name(params), here, experiment, system_metrics=True)
        live = LiveRun(run_id)
        with ending(live.run_id, lambda status: _end_training(status, live)):
            with store_errors(paths):
                describe(params, paths, chosen or {})
            with environment(_IN_TRAINING):
                live.started = time.monotonic()
                yield live


@contextmanager
def completed_run(params: Params, paths: Paths) -> Iterator[str]:
    """Log everything that the files hold to the run that train opened, which is active inside the block; yield its id.

    If the store does not hold that run, it is created again, curves included. Existing entries are not duplicated.

    Raises:
        TrackingError: the store does not answer, also inside the block.
    """
    with connected(params, paths) as experiment:
        here = run_owner.this_process(paths.store)
        end_orphans(experiment, here)
        recorded = files.read_json(paths.run)
        found = _find(recorded["run_id"], experiment)
        if found:
            mlflow.MlflowClient().log_batch(found, tags=[RunTag(*tag) for tag in here.tags().items()])
        with opening(experiment, here):
            run_id = found or open_run(run_name(params), here, experiment)
            with ending(run_id, end):
                if found:
                    mlflow.start_run(run_id=found)
                else:
                    mlflow.set_tags({_REBUILT: recorded["run_id"], "trained": recorded["started"]})
                    describe(params, paths, recorded)
                log_missing_epochs(run_id, history.read(paths.history))
                log_results(paths)
                yield run_id


def _end_training(status: int, live: LiveRun) -> None:
    """End the active run. If the store is gone, warn; register completes the run."""
    try:
        with redirect_stdout(io.StringIO()), environment(_IN_TRAINING if live.live else _GIVEN_UP):
            mlflow.end_run(RunStatus.to_string(status))
    except MlflowException as error:
        if live.live:  # otherwise `log_epoch` has warned
            console.echo("train", f"warning: the MLflow store did not take the end of the run ({reason(error)})")


def _find(run_id: str, experiment: str) -> str | None:
    """The run `run_id` of the experiment, or the run that was rebuilt from it; None if the store holds neither."""
    try:
        info = mlflow.get_run(run_id).info
        if info.experiment_id == experiment and info.lifecycle_stage == "active":
            return run_id
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
    rebuilt = mlflow.MlflowClient().search_runs([experiment], f"tags.{_REBUILT} = '{run_id}'", max_results=1)
    return str(rebuilt[0].info.run_id) if rebuilt else None


def log_report(
    name: str, metrics: Mapping[str, float], tags: Mapping[str, str], folder: Path, params: Params, paths: Paths
) -> None:
    """Log a report, such as on drift, as a separate run with every file in `folder`.

    Raises:
        TrackingError: the store does not answer.
    """
    with connected(params, paths) as experiment:
        here = run_owner.this_process(paths.store)
        with opening(experiment, here), ending(open_run(name, here, experiment), end):
            mlflow.set_tags({"report": name, **tags})
            mlflow.log_metrics(dict(metrics))
            mlflow.log_artifacts(str(folder))


def experiment_id(params: Params, paths: Paths) -> str | None:
    """The identifier of the experiment; None if the store has none of this name yet.

    Raises:
        TrackingError: the store does not answer.
    """
    with store_errors(paths):
        mlflow.set_tracking_uri(paths.tracking_uri)
        found = mlflow.get_experiment_by_name(params.tracking.experiment)
    return str(found.experiment_id) if found else None


def run_link(run_id: str, paths: Paths) -> str:
    """Where to see the run: its page on the server, or the command that serves it."""
    uri = redacted(paths.tracking_uri)
    if not uri.startswith("http"):
        return f"run {run_id}, shown by `make ui`"
    try:
        experiment = mlflow.get_run(run_id).info.experiment_id
    except MlflowException:  # another store holds it
        return f"run {run_id}"
    return f"{uri}/#/experiments/{experiment}/runs/{run_id}"
