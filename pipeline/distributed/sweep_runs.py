"""A sweep in the MLflow store: a parent run, and a child a trial, live."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric, Param, RunStatus
from mlflow.exceptions import MlflowException

from pipeline.core import console
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.distributed.trials import METRIC, Config, Trial
from pipeline.tracking.connection import connected, store_errors
from pipeline.tracking.run_content import flatten

_PARENT, _TRIAL = "mlflow.parentRunId", "trial"


def open_parent(params: Params, paths: Paths, run_id: str | None) -> str:
    """Open the sweep's run, or again the one of `run_id`; return its identifier.

    Raises:
        TrackingError: the store does not answer.
    """
    with connected(params, paths):
        with mlflow.start_run(run_id=run_id, run_name=None if run_id else "sweep") as run:
            if run_id is None:
                mlflow.log_params(flatten({"sweep": params.sweep.model_dump()}))
        mlflow.MlflowClient().update_run(run.info.run_id, status="RUNNING")
        return str(run.info.run_id)


def close_parent(run_id: str, trials: list[Trial], complete: bool, folder: Path, paths: Paths) -> None:
    """End the sweep's run, with the best trial's figures and the files in `folder`, and children that were left open."""
    with store_errors(paths):
        client = mlflow.MlflowClient()
        for run in _children(client, run_id):
            if run.info.status == "RUNNING":
                client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.KILLED))
        if trials and not trials[0].failed:
            for name, value in trials[0].figures.items():
                client.log_metric(run_id, f"best/{name}", value)
        for path in sorted(folder.glob("*.*")):
            client.log_artifact(run_id, str(path))
        client.set_terminated(run_id, "FINISHED" if complete else "KILLED")


def _children(client: mlflow.MlflowClient, parent: str, extra: str = "") -> list[Any]:
    experiment = client.get_run(parent).info.experiment_id
    return list(client.search_runs([experiment], f"tags.`{_PARENT}` = '{parent}'{extra}", max_results=10_000))


def outcome(trial: Trial) -> str:
    """What came of a trial, in a few words."""
    if trial.failed:
        return "failed"
    came = "diverged" if trial.diverged else f"{METRIC} {trial.loss:.4f}"
    return f"{came} after {trial.epochs} epoch{'s' * (trial.epochs != 1)}"


class Recorder:
    """Puts what happens to trials into the store, and a line a trial onto the console.

    A store that does not answer costs a warning, not the sweep.
    """

    def __init__(self, parent: str, params: Params, paths: Paths) -> None:
        self.parent, self.params, self.paths = parent, params, paths
        self.runs: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"runs": {}}

    def started(self, name: str, config: Config) -> None:
        """A trial begins, or begins again after its process or machine, or the search's, died.

        Then the run of the earlier attempt is ended as KILLED, even if it had come to its end: the search does not know.
        """
        with self._surviving() as client:
            for run in _children(client, self.parent, f" and tags.{_TRIAL} = '{name}' and attributes.status != 'FAILED'"):
                client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.KILLED))
            tags = {_PARENT: self.parent, _TRIAL: name}
            run = client.create_run(client.get_run(self.parent).info.experiment_id, tags=tags, run_name=f"trial {name}")
            client.log_batch(run.info.run_id, params=[Param(key, str(value)) for key, value in config.items()])
            self.runs[name] = run.info.run_id

    def epoch_ended(self, name: str, epoch: int, figures: Mapping[str, float]) -> None:
        with self._surviving() as client:
            now = time.time_ns() // 1_000_000
            points = [Metric(f"epoch/{key}", value, now, epoch) for key, value in figures.items()]
            client.log_batch(self.runs[name], metrics=points)

    def ended(self, trial: Trial, count: int, best: float) -> None:
        console.echo("sweep", f"{count} of {self.params.sweep.trials}: {outcome(trial)} · best {best:.4f}")
        with self._surviving() as client:
            client.set_terminated(self.runs[trial.name], "FAILED" if trial.failed else "FINISHED")

    @contextmanager
    def _surviving(self) -> Iterator[mlflow.MlflowClient]:
        try:
            yield mlflow.MlflowClient(self.paths.tracking_uri)
        except (MlflowException, KeyError) as error:  # KeyError: the trial's start found no store
            console.echo("sweep", f"warning: the MLflow store lacks what a trial reported ({type(error).__name__})")
