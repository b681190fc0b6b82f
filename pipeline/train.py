"""Train the network on the validated training split and log the run to MLflow.

Write data/model/model.keras, the training history and snapshots of the weights.

Example:
    python -m pipeline.train
    dvc exp run -S train.epochs=5
"""

import platform
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core import console, files
from pipeline.core.errors import PipelineError
from pipeline.core.params import Params, TrainParams
from pipeline.core.paths import Paths
from pipeline.data import datasets, history
from pipeline.data.datasets import Split
from pipeline.training import snapshots, tensorflow_setup

_COPIES = 5  # augmented versions of each example that the explorer shows


class UnvalidatedDataError(PipelineError):
    """The data failed validation or were not validated."""

    def __init__(self, report: Path, found: str) -> None:
        super().__init__(
            f"{report}: expected a passed validation of the data in data/raw, found {found}.\n"
            "Nothing was trained. `dvc repro` validates first."
        )


def check_gate(paths: Paths) -> None:
    """Raise UnvalidatedDataError unless the validation report is for the current data and passed."""
    report, manifest = files.read_json(paths.report), datasets.read_manifest(paths)
    if not report["success"]:
        raise UnvalidatedDataError(paths.report, f"{len(report['broken'])} broken expectation(s)")
    if report["fingerprint"] != manifest["fingerprint"]:
        raise UnvalidatedDataError(paths.report, "a validation of other data")


def write_augmented(data: Split, rows: npt.NDArray[np.intp], params: TrainParams, paths: Paths) -> None:
    """Write the first image of each class among `rows` with augmented versions of it; ten classes at most."""
    from pipeline.training import augmentation

    _, firsts = np.unique(data.labels[rows], return_index=True)
    images = np.asarray(data.images[rows[firsts[:10]]])
    with files.replacing(paths.distorted) as part:
        np.save(part, augmentation.examples(images, _COPIES, params.augmentation, params.seed))


def run_record(run_id: str, started: datetime, seconds: float) -> dict[str, Any]:
    """The content of run.json: which MLflow run trained the model, when, for how long, and with what."""
    return {
        "run_id": run_id,
        "started": started.isoformat(timespec="seconds"),
        "fit_seconds": round(seconds, 2),
        "platform": platform.platform(),
        **{package: version(package) for package in ("tensorflow", "keras", "numpy")},
    }


def run(params: Params, paths: Paths) -> str:
    check_gate(paths)
    data = datasets.load(paths, "train")
    parts = datasets.hold_out(datasets.train_rows(paths), params.train.validation_split)

    with tensorflow_setup.lean_tensorflow(params.train.threads):  # late: it takes seconds, and wrong inputs are refused before
        from pipeline.tracking import runs
        from pipeline.training import fit, network

    model = network.build(params.model, data.images.shape[1:], len(params.fetch.classes), params.train.seed)
    summary = network.summary(model)
    print(summary, flush=True)
    started, recorder = datetime.now(UTC), snapshots.SnapshotRecorder()
    with runs.training_run(params, paths) as live:
        clock = time.perf_counter()
        epochs = fit.fit(model, data, parts, params.train, live.log_epoch, recorder)
        seconds = time.perf_counter() - clock
        network.save(model, paths.keras)
        files.write_text(paths.summary, summary)
        history.write(paths.history, epochs)
        snapshots.save(recorder.taken, paths.snapshots)
        write_augmented(data, parts[0], params.train, paths)
    files.write_json(paths.run, run_record(live.run_id, started, seconds))
    accuracy = "val_accuracy" if "val_accuracy" in epochs[-1] else "accuracy"
    return f"{len(epochs)} epochs in {seconds:.1f} s, {accuracy} {epochs[-1][accuracy]:.4f}"


if __name__ == "__main__":
    sys.exit(console.run_stage("train", run, __doc__))
