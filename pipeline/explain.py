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


def split_metrics(weights: Weights, activation: str, test: Split) -> dict[str, float]:
    """Compute accuracy and loss of a network with these weights on the test split."""
    probabilities = page.forward(weights, activation, test.images)
    accuracy, loss = metrics.accuracy(test.labels, probabilities), metrics.log_loss(test.labels, probabilities)
    return {"accuracy": accuracy, "loss": loss}


def progress(params: Params, paths: Paths, test: Split) -> list[dict[str, Any]]:
    """Encode the network from the random start to the exported model, which has the metrics of stage evaluate."""
    end = page.final(onnx_model.dense_layers(paths.onnx))
    chosen = page.choose(snapshots.load(paths.snapshots), end)
    encoded = [
        page.snapshot_json(taken, split_metrics(page.quantized(taken.weights), params.model.activation, test))
        for taken in chosen
    ]
    evaluated = files.read_json(paths.metrics)
    end_metrics = {"accuracy": evaluated["accuracy"], "loss": evaluated["log_loss"]}
    return [*encoded, page.end_json(len(history.read(paths.history)), end, end_metrics)]


def content(params: Params, paths: Paths) -> Mapping[str, Any]:
    """Return the content of the page as JSON."""
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
