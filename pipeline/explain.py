"""Build the explorer: one HTML page that shows how the exported network predicts.

Write data/explorer/index.html; `make explore` opens it.

Example:
    python -m pipeline.explain
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core import console, files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data import datasets, history
from pipeline.data.datasets import Split
from pipeline.evaluation import metrics
from pipeline.explorer import page
from pipeline.inference import onnx_model
from pipeline.inference.onnx_model import OnnxModel
from pipeline.training import snapshots
from pipeline.training.snapshots import Weights

TEMPLATE = Path(__file__).parent / "explorer" / "web" / "index.html"


def figures(weights: Weights, activation: str, test: Split) -> dict[str, float]:
    """Accuracy and loss of a network with these weights on the test split."""
    probabilities = page.forward(weights, activation, test.images)
    accuracy, loss = metrics.accuracy(test.labels, probabilities), metrics.log_loss(test.labels, probabilities)
    return {"accuracy": accuracy, "loss": loss}


def progress(params: Params, paths: Paths, test: Split) -> list[dict[str, Any]]:
    """The network from the random start to the end, which is the exported model with the figures that evaluate found."""
    end = page.final(onnx_model.dense_layers(paths.onnx))
    chosen = page.choose(snapshots.load(paths.snapshots), end)
    on_the_way = [
        page.snapshot_json(taken, figures(page.rounded(taken.weights), params.model.activation, test)) for taken in chosen
    ]
    scored = files.read_json(paths.metrics)
    found = {"accuracy": scored["accuracy"], "loss": scored["log_loss"]}
    return [*on_the_way, page.end_json(len(history.read(paths.history)), end, found)]


def content(params: Params, paths: Paths) -> Mapping[str, Any]:
    """Everything that the page shows, none of it known before the run."""
    train, test = datasets.load(paths, "train"), datasets.load(paths, "test")
    manifest, classes = datasets.read_manifest(paths), params.fetch.classes
    predicted = OnnxModel(paths.onnx).predict(test.images)
    return {
        "dataset": manifest["dataset"],
        "licence": manifest["licence"],
        "classes": list(classes),
        "noun": "digit" if all(name.isdigit() for name in classes) else "class",
        "shape": list(test.images.shape[1:]),
        "hidden": list(params.model.hidden_units),
        "activation": params.model.activation,
        "step": params.explain.step,
        "snapshots": progress(params, paths, test),
        "samples": page.images_json(test, page.samples(test.labels, params.explain.samples)),
        "mistakes": page.images_json(test, page.mistakes(test.labels, predicted, params.explain.mistakes)),
        "data": page.data_json(train, test, len(classes), snapshots.load_distorted(paths.distorted)),
    }


def run(params: Params, paths: Paths) -> str:
    text = page.page(TEMPLATE, content(params, paths))
    files.write_text(paths.page, text)
    return f"{paths.page}, {len(text.encode()) / 1e6:.1f} MB: `make explore`"


if __name__ == "__main__":
    sys.exit(console.run_stage("explain", run, __doc__))
