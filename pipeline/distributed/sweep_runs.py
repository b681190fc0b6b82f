"""Log a sweep to MLflow while it runs: a parent run, and a child run per trial."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import mlflow
from mlflow.entities import Metric, Param, RunStatus
from mlflow.exceptions import MlflowException

from pipeline.core import console
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.distributed.trials import Config, Trial
from pipeline.tracking.connection import connected, store_errors
from pipeline.tracking.run_content import flatten

_PARENT, _TRIAL = "mlflow.parentRunId", "trial"


class ParentRun:
    """The MLflow run of a sweep; set `ended` to its trials, the best first."""

    def __init__(self, run_id: str, params: Params, paths: Paths) -> None:
        self.run_id = run_id
        self.observer = TrialRuns(run_id, params, paths)
        self.ended: list[Trial] = []


@contextmanager
def parent_run(params: Params, paths: Paths, run_id: str | None) -> Iterator[ParentRun]:
    """Open the run of a sweep, or reopen `run_id`, and close it with the best trial's metrics and the files of data/sweep/.

    Raises:
        TrackingError: the store does not answer.
    """
    parent = ParentRun(_open(params, paths, run_id), params, paths)
    try:
        yield parent
    finally:
        _close(parent, params, paths)


def _open(params: Params, paths: Paths, run_id: str | None) -> str:
    with connected(params, paths) as experiment:
        new = {} if run_id else {"run_name": "sweep", "experiment_id": experiment}
        with mlflow.start_run(run_id=run_id, **new) as run:
            if run_id is None:
                mlflow.log_params(flatten({"sweep": params.sweep.model_dump()}))
        mlflow.MlflowClient().update_run(run.info.run_id, status="RUNNING")
        return str(run.info.run_id)


def _close(parent: ParentRun, params: Params, paths: Paths) -> None:
    with store_errors(paths):
        client = mlflow.MlflowClient()
        for run in _children(client, parent.run_id):
            if run.info.status == "RUNNING":
                client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.KILLED))
        if parent.ended:
            for name, value in parent.ended[0].metrics.items():
                client.log_metric(parent.run_id, f"best/{name}", value)
        for path in sorted(paths.sweep.glob("*.*")):
            client.log_artifact(parent.run_id, str(path))
        complete = len(parent.ended) == params.sweep.trials
        client.set_terminated(parent.run_id, "FINISHED" if complete else "KILLED")


def _children(client: mlflow.MlflowClient, parent: str, extra: str = "") -> list[Any]:
    experiment = client.get_run(parent).info.experiment_id
    return list(client.search_runs([experiment], f"tags.`{_PARENT}` = '{parent}'{extra}", max_results=10_000))


class TrialRuns:
    """Logs each trial to an MLflow run of its own and prints a line when it ends.

    A store that does not answer causes a warning and does not stop the sweep.
    """

    def __init__(self, parent: str, params: Params, paths: Paths) -> None:
        self.parent, self.params, self.paths = parent, params, paths
        self.runs: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"runs": {}}  # a resumed search opens new runs

    def started(self, name: str, config: Config) -> None:
        """Open a run for a trial that starts, or restarts after its process, its machine or the search died.

        The run of an earlier attempt becomes KILLED, even if it was FINISHED: the search has lost its result.
        """
        with self._warning() as client:
            for run in _children(client, self.parent, f" and tags.{_TRIAL} = '{name}' and attributes.status != 'FAILED'"):
                client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.KILLED))
            tags = {_PARENT: self.parent, _TRIAL: name}
            run = client.create_run(client.get_run(self.parent).info.experiment_id, tags=tags, run_name=f"trial {name}")
            client.log_batch(run.info.run_id, params=[Param(key, str(value)) for key, value in config.items()])
            self.runs[name] = run.info.run_id

    def epoch_ended(self, name: str, epoch: int, metrics: Mapping[str, float]) -> None:
        with self._warning() as client:
            now = time.time_ns() // 1_000_000
            points = [Metric(f"epoch/{key}", value, now, epoch) for key, value in metrics.items()]
            client.log_batch(self.runs[name], metrics=points)

    def ended(self, trial: Trial, count: int, best: float) -> None:
        console.echo("sweep", f"{count} of {self.params.sweep.trials}: {trial.outcome} · best {best:.4f}")
        with self._warning() as client:
            client.set_terminated(self.runs[trial.name], "FAILED" if trial.failed else "FINISHED")

    @contextmanager
    def _warning(self) -> Iterator[mlflow.MlflowClient]:
        try:
            yield mlflow.MlflowClient(self.paths.tracking_uri)
        except (MlflowException, KeyError) as error:  # KeyError: the store did not answer when the trial started
            console.echo("sweep", f"warning: the MLflow store misses results of a trial ({type(error).__name__})")
