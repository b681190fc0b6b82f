"""Train the network on the validated training split and log the run to MLflow.

Write data/model/model.keras, the training history and snapshots of the weights.

Example:
    python -m pipeline.train
    dvc exp run -S train.epochs=5
"""

import platform
import sys
import time
from collections.abc import Mapping, Sequence
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
from pipeline.training import weights as weighting
from pipeline.training.weights import Chosen, Rows

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


def run_record(run_id: str, started: datetime, seconds: float, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The content of run.json: which MLflow run trained the model, when, for how long, and with what."""
    return {
        "run_id": run_id,
        "started": started.isoformat(timespec="seconds"),
        "fit_seconds": round(seconds, 2),
        "platform": platform.platform(),
        **chosen,
        **{package: version(package) for package in ("tensorflow", "keras", "numpy")},
    }


def choose_weights(
    data: Split, parts: tuple[Rows, Rows], rows: Sequence[int], weights: Sequence[int | str], params: Params
) -> Chosen:
    """The weight of each segment of the training split, and the augmentation, after short runs if a weight is `auto`."""
    from pipeline.training import fit, network

    def short_run(fitted: Rows, chosen: TrainParams) -> weighting.Predict:
        model = network.build(params.model, data.images.shape[1:], len(params.fetch.classes), chosen.seed)
        fit.fit(model, data, (fitted, fitted[:0]), chosen, lambda *_: None)
        return lambda images: np.asarray(model.predict(images, batch_size=2000, verbose=0))

    chosen = weighting.choose(data, parts, rows, weights, params.train, short_run)
    if weighting.AUTO in weights:
        console.echo("train", f"weight of recent images: {_words(chosen, chosen.weights[weights.index(weighting.AUTO)])}")
    return chosen


def _words(chosen: Chosen, weight: int) -> str:
    """The weight that `auto` took, with the losses that decided."""
    if not chosen.tried:
        return f"{weight}, because they are too few to try others"
    equal, *_ = chosen.tried
    taken = next(run for run in chosen.tried if (run.weight, run.strength) == (weight, chosen.strength))
    stronger = f", with {chosen.strength:g} times the augmentation" if chosen.strength != 1 else ""
    return (
        f"{weight}{stronger} (of {len(chosen.tried)} short runs; loss on old and on recent validation images: "
        f"{taken.old:.3f} and {taken.new:.3f}, with weight 1 {equal.old:.3f} and {equal.new:.3f})"
    )


def _recorded(chosen: Chosen, paths: Paths) -> dict[str, Any]:
    """For run.json and the MLflow run: the weight of each extra data set by its name, and the strength of augmentation."""
    segments = datasets.segments(datasets.read_manifest(paths), "train")[1:]
    weights = {segment.name: weight for segment, weight in zip(segments, chosen.weights[1:], strict=True)}
    return {"weights": weights, "augmentation_strength": chosen.strength} if weights else {}


def run(params: Params, paths: Paths) -> str:
    check_gate(paths)
    data = datasets.load(paths, "train")
    rows = datasets.train_rows(paths)
    parts = datasets.hold_out(rows, params.train.validation_split)

    with tensorflow_setup.lean_tensorflow(params.train.threads):  # late: it takes seconds, and wrong inputs are refused before
        from pipeline.tracking import runs
        from pipeline.training import fit, network

    chosen = choose_weights(data, parts, rows, datasets.weights(datasets.read_manifest(paths)), params)
    recorded = _recorded(chosen, paths)
    parts = weighting.repeated(parts[0], rows, chosen.weights), parts[1]
    train = params.train.model_copy(update={"augmentation": params.train.augmentation.times(chosen.strength)})
    model = network.build(params.model, data.images.shape[1:], len(params.fetch.classes), params.train.seed)
    summary = network.summary(model)
    print(summary, flush=True)
    started, recorder = datetime.now(UTC), snapshots.SnapshotRecorder()
    with runs.training_run(params, paths, recorded) as live:
        clock = time.perf_counter()
        epochs = fit.fit(model, data, parts, train, live.log_epoch, recorder)
        seconds = time.perf_counter() - clock
        network.save(model, paths.keras)
        files.write_text(paths.summary, summary)
        history.write(paths.history, epochs)
        snapshots.save(recorder.taken, paths.snapshots)
        write_augmented(data, parts[0], train, paths)
    files.write_json(paths.run, run_record(live.run_id, started, seconds, recorded))
    accuracy = "val_accuracy" if "val_accuracy" in epochs[-1] else "accuracy"
    return f"{len(epochs)} epochs in {seconds:.1f} s, {accuracy} {epochs[-1][accuracy]:.4f}"


if __name__ == "__main__":
    sys.exit(console.run_stage("train", run, __doc__))
