"""What a run holds: parameters, data sets, curves, metrics and files."""

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric

from pipeline.core import files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data import datasets, history
from pipeline.data.datasets import Segment, Split
from pipeline.tracking.connection import retry_on_conflict

ONNX_SHA256 = "onnx_sha256"  # the tag of a run and of a model version
CURVE = "epoch/"  # this prefix sorts the curves before all other charts of the UI


def describe(params: Params, paths: Paths, chosen: Mapping[str, Any]) -> None:
    """Log what is known before training: the parameters, what train chose, and each data set by its hash.

    Args:
        chosen: `weights`, how often each image of an extra data set counts, by the name of the set, and
            `augmentation_strength`, which multiplies the parameters of augmentation; both as in run.json, or absent.
    """
    manifest = datasets.read_manifest(paths)
    mlflow.log_params(flatten(params.model_dump(by_alias=True, exclude={"fetch", "tracking"})))
    mlflow.log_params({f"weight.{name}": weight for name, weight in chosen.get("weights", {}).items()})
    if strength := chosen.get("augmentation_strength"):
        mlflow.log_param("augmentation_strength", strength)
    mlflow.set_tags({"data_fingerprint": manifest["fingerprint"], "dataset": manifest["dataset"]})
    if baseline := os.environ.get("DVC_EXP_BASELINE_REV"):
        mlflow.set_tags({"dvc_experiment": os.environ["DVC_EXP_NAME"], "dvc_baseline": baseline})
    inputs = []
    splits = [("train", "training"), ("test", "evaluation"), (datasets.RECENT, "evaluation of recent images")]
    for name, context in splits:
        if not any(segment.rows for segment in datasets.segments(manifest, name)):
            continue
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


def log_missing_epochs(run_id: str, epochs: Sequence[history.Epoch]) -> None:
    """Add the epochs of the training history that the run lacks."""
    client = mlflow.MlflowClient()
    known = {point.step for point in client.get_metric_history(run_id, f"{CURVE}loss")}
    now = client.get_run(run_id).info.start_time
    missing = [
        Metric(f"{CURVE}{name}", value, now, epoch)
        for epoch, metrics in enumerate(epochs, 1)
        if epoch not in known
        for name, value in metrics.items()
    ]
    for start in range(0, len(missing), 1000):  # MLflow's limit per batch
        client.log_batch(run_id, metrics=missing[start : start + 1000])


def log_results(paths: Paths) -> None:
    measured = files.read_json(paths.metrics)
    metrics = {
        "slice": measured.pop("slices", {}),
        "test": measured,
        "latency": files.read_json(paths.latency),
        "parity": files.read_json(paths.parity),
        "fit": {"seconds": files.read_json(paths.run)["fit_seconds"]},
    }
    numbers = {name: value for name, value in flatten(metrics, separator="/").items() if not isinstance(value, str)}
    client, run = mlflow.MlflowClient(), mlflow.active_run().info
    now = int(time.time() * 1000)
    # Not mlflow.log_metrics: it also logs to the models of the run, which fails if `mlflow gc` removed one.
    client.log_batch(run.run_id, [Metric(_metric_name(name), value, now, 0) for name, value in numbers.items()])
    expectations = files.read_json(paths.report)["expectations"]
    mlflow.set_tags({ONNX_SHA256: files.sha256(paths.onnx), "validation": f"{expectations['met']} expectations met"})
    for file in (paths.params, paths.summary, paths.history, paths.metrics, paths.per_class, paths.model_card, paths.contract):
        mlflow.log_artifact(str(file))
    for file in paths.models().values():
        mlflow.log_artifact(str(file), "onnx")
    mlflow.log_artifacts(str(paths.plots), "plots")
    mlflow.log_artifacts(str(paths.explorer), "explorer")
    for file in (paths.report, paths.report_page):
        mlflow.log_artifact(str(file), "validation")
    mlflow.log_artifacts(str(paths.data_docs), "validation/data_docs")


def _metric_name(name: str) -> str:
    """MLflow accepts letters, digits and a few signs, but a class name may contain others."""
    return re.sub(r"[^\w\-. :/]", "_", name)
