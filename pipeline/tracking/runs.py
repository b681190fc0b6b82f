"""MLflow runs: one per pipeline run, live during training, completed by register.

Files are the truth and MLflow shows them: whatever the store lacks is restored from the files.
"""

import io
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, RunStatus, RunTag
from mlflow.exceptions import MlflowException

from pipeline.core import console, files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.core.urls import redacted
from pipeline.data import datasets, history
from pipeline.data.datasets import Segment, Split
from pipeline.tracking import run_owner
from pipeline.tracking.connection import connected, environment, reason, retry_on_conflict, store_errors
from pipeline.tracking.run_lifecycle import end, end_orphans, ending, open_run, opening

ONNX_SHA256 = "onnx_sha256"  # the tag of a run and of a model version

_CURVE = "epoch/"  # this prefix sorts the curves before all other charts of the UI
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
        self.begun, self.waited = time.monotonic(), 0.0

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        if not self.live:
            return
        asked = time.monotonic()
        try:
            mlflow.log_metrics({f"{_CURVE}{name}": value for name, value in metrics.items()}, step=epoch)
        except MlflowException as error:
            self._give_up(f"stopped answering ({reason(error)})")
            return
        self.waited += time.monotonic() - asked
        if self.waited > max(_WAIT_SECONDS, _WAIT_SHARE * (time.monotonic() - self.begun)):
            self._give_up(f"is slow: it took {self.waited:.1f} s of this training")

    def _give_up(self, reason: str) -> None:
        self.live = False
        console.echo("train", f"warning: the MLflow store {reason}; register will complete the run")


@contextmanager
def training_run(params: Params, paths: Paths) -> Iterator[LiveRun]:
    """Open a run, log the parameters and the data to it, and end it as FINISHED, FAILED or KILLED.

    Raises:
        TrackingError: the store does not answer. Other errors are those of `store_errors`. All come before the training.
    """
    with connected(params, paths) as experiment:
        here = run_owner.this_process(paths.store)
        end_orphans(experiment, here)
    with opening(experiment, here):
        with store_errors(paths):
            run = mlflow.start_run(run_name=os.environ.get("DVC_EXP_NAME"), tags=here.tags(), log_system_metrics=True)
        live = LiveRun(run.info.run_id)
        with ending(live.run_id, lambda status: _end_training(status, live)):
            with store_errors(paths):
                _describe(params, paths)
            with environment(_IN_TRAINING):
                live.begun = time.monotonic()
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
            run_id = found or open_run(os.environ.get("DVC_EXP_NAME"), here)
            with ending(run_id, end):
                if found:
                    mlflow.start_run(run_id=found)
                else:
                    mlflow.set_tags({_REBUILT: recorded["run_id"], "trained": recorded["started"]})
                    _describe(params, paths)
                _log_missing_epochs(run_id, history.read(paths.history))
                _log_results(paths)
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


def _describe(params: Params, paths: Paths) -> None:
    """Log what is known before training: the parameters, and each data set by its hash."""
    manifest = datasets.read_manifest(paths)
    mlflow.log_params(flatten(params.model_dump(by_alias=True, exclude={"fetch", "tracking"})))
    mlflow.set_tags({"data_fingerprint": manifest["fingerprint"], "dataset": manifest["dataset"]})
    if baseline := os.environ.get("DVC_EXP_BASELINE_REV"):
        mlflow.set_tags({"dvc_experiment": os.environ["DVC_EXP_NAME"], "dvc_baseline": baseline})
    inputs = []
    for name, context in (("train", "training"), ("test", "evaluation")):
        split, segments = datasets.open_split(paths, name), datasets.segments(manifest, name)
        for segment, rows in zip(segments, datasets.slices([segment.rows for segment in segments]), strict=True):
            inputs.append(_dataset(segment, Split(split.images[rows], split.labels[rows]), paths, context))
    client, run_id = mlflow.MlflowClient(), mlflow.active_run().info.run_id
    retry_on_conflict(lambda: client.log_inputs(run_id, inputs))


def _dataset(segment: Segment, split: Split, paths: Paths, context: str) -> DatasetInput:
    """Describe a set of images like `mlflow.data.from_numpy`, without importing pandas and SciPy into training."""
    images, labels = split
    schema: dict[str, str] = {}
    profile: dict[str, Any] = {}
    for name, array in (("features", images), ("targets", labels)):
        tensor = {"dtype": str(array.dtype), "shape": [-1, *array.shape[1:]]}
        schema[name] = json.dumps([{"type": "tensor", "tensor-spec": tensor}])
        profile |= {f"{name}_shape": array.shape, f"{name}_size": array.size, f"{name}_nbytes": array.nbytes}
    dataset = Dataset(
        name=segment.name,
        digest=segment.sha256[:36],  # the longest digest that MLflow accepts
        source_type="local",
        source=json.dumps({"uri": str(paths.raw)}),
        schema=json.dumps({"mlflow_tensorspec": schema}),
        profile=json.dumps(profile),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", context)])


def flatten(tree: Mapping[str, Any], prefix: str = "", separator: str = ".") -> dict[str, Any]:
    """`{"train": {"seed": 0}}` -> `{"train.seed": 0}`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}{separator}", separator))
        else:
            flat[name] = value
    return flat


def _log_missing_epochs(run_id: str, epochs: Sequence[history.Epoch]) -> None:
    """Add the epochs of the training history that the run lacks."""
    client = mlflow.MlflowClient()
    known = {point.step for point in client.get_metric_history(run_id, f"{_CURVE}loss")}
    now = client.get_run(run_id).info.start_time
    missing = [
        Metric(f"{_CURVE}{name}", value, now, epoch)
        for epoch, metrics in enumerate(epochs, 1)
        if epoch not in known
        for name, value in metrics.items()
    ]
    for start in range(0, len(missing), 1000):  # MLflow's limit per batch
        client.log_batch(run_id, metrics=missing[start : start + 1000])


def _log_results(paths: Paths) -> None:
    metrics = {
        "test": files.read_json(paths.metrics),
        "latency": files.read_json(paths.latency),
        "parity": files.read_json(paths.parity),
        "fit": {"seconds": files.read_json(paths.run)["fit_seconds"]},
    }
    numbers = {name: value for name, value in flatten(metrics, separator="/").items() if not isinstance(value, str)}
    mlflow.log_metrics({_metric_name(name): value for name, value in numbers.items()})
    expectations = files.read_json(paths.report)["expectations"]
    mlflow.set_tags({ONNX_SHA256: files.sha256(paths.onnx), "validation": f"{expectations['met']} expectations met"})
    for file in (paths.params, paths.summary, paths.history, paths.metrics, paths.per_class, paths.model_card, paths.contract):
        mlflow.log_artifact(str(file))
    for file in (paths.onnx, paths.int8):
        mlflow.log_artifact(str(file), "onnx")
    mlflow.log_artifacts(str(paths.plots), "plots")
    mlflow.log_artifacts(str(paths.explorer), "explorer")
    mlflow.log_artifacts(str(paths.validation), "validation")


def _metric_name(name: str) -> str:
    """MLflow accepts letters, digits and a few signs, but a class name may contain others."""
    return re.sub(r"[^\w\-. :/]", "_", name)


def log_report(
    name: str, metrics: Mapping[str, float], tags: Mapping[str, str], folder: Path, params: Params, paths: Paths
) -> None:
    """Log a report, such as on drift, as a separate run with every file in `folder`.

    Raises:
        TrackingError: the store does not answer.
    """
    with connected(params, paths) as experiment:
        here = run_owner.this_process(paths.store)
        with opening(experiment, here), ending(open_run(name, here), end):
            mlflow.set_tags({"report": name, **tags})
            mlflow.log_metrics(dict(metrics))
            mlflow.log_artifacts(str(folder))


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
