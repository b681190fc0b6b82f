"""Score the exported ONNX files on the test split: metrics, tables and plots.

Write data/evaluation.

Example:
    python -m pipeline.evaluate
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.core import console, files
from pipeline.core.files import csv_text
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data import datasets, history
from pipeline.data.datasets import Pixels, Split
from pipeline.evaluation import metrics, model_card, scoring
from pipeline.inference import onnx_model
from pipeline.inference.onnx_model import OnnxModel, Probabilities


def per_class_csv(variants: dict[str, Probabilities], labels: Pixels, classes: Sequence[str]) -> str:
    """One row a variant and class: images, precision, recall, F1."""
    rows = [
        {"variant": variant, "class": name, **row}
        for variant, probabilities in variants.items()
        for name, row in zip(classes, metrics.per_class(metrics.confusion(labels, probabilities)), strict=True)
    ]
    return csv_text(list(rows[0]), ([*row.values()] for row in rows))


def predictions_csv(labels: Pixels, probabilities: Probabilities, classes: Sequence[str]) -> str:
    """One row a test image: the class it is labelled with and the class decided, from which DVC plots the confusion."""
    decided = probabilities.argmax(axis=1)
    return csv_text(["actual", "predicted"], ((classes[a], classes[b]) for a, b in zip(labels, decided, strict=True)))


def draw(paths: Paths, test: Split, probabilities: Probabilities, params: Params) -> None:
    """Draw every picture into data/evaluation/plots."""
    from pipeline.evaluation import (
        plots,  # matplotlib takes a second: after the figures are there
        style,
    )

    classes, bins = params.fetch.classes, params.evaluate.calibration_bins
    train = datasets.open_split(paths, "train")
    layers = onnx_model.dense_layers(paths.onnx)
    counts = {name: np.bincount(split.labels, minlength=len(classes)) for name, split in (("train", train), ("test", test))}
    figures = {
        "training_curves": plots.training_curves(history.read(paths.history)),
        "confusion_matrix": plots.confusion_matrix(metrics.confusion(test.labels, probabilities), classes),
        "worst_mistakes": plots.worst_mistakes(test, probabilities, classes, params.evaluate.gallery),
        "calibration": plots.calibration(metrics.reliability(test.labels, probabilities, bins)),
        "class_distribution": plots.class_distribution(counts, classes),
        "hidden_neurons": plots.hidden_neurons(layers[0].kernel, test.images.shape[1:]),
        "layers": plots.layer_diagram(test.images.shape[1:], layers),
    }
    with files.replacing_folder(paths.plots) as folder:
        for name, figure in figures.items():
            style.save(figure, folder / f"{name}.png")


def describe(paths: Paths, figures: dict[str, Any], probabilities: Probabilities, labels: Pixels, params: Params) -> None:
    """Write the model card and the contract."""
    classes, train = params.fetch.classes, datasets.open_split(paths, "train")
    images = model_card.vectors(train.images, train.labels)
    opset, ir_version = onnx_model.versions(paths.onnx)
    hashes = {path.name: files.sha256(path) for path in (paths.onnx, paths.int8)}
    contract = model_card.contract(hashes, opset, ir_version, classes, images, OnnxModel(paths.onnx).predict(images))
    rows = metrics.per_class(metrics.confusion(labels, probabilities))
    named = [{"class": name, **row} for name, row in zip(classes, rows, strict=True)]
    chosen = params.model_dump(include={"model", "train", "evaluate"})
    files.write_json(paths.contract, contract)
    files.write_text(paths.card, model_card.card(files.read_json(paths.manifest), chosen, figures, named, contract))


def run(params: Params, paths: Paths) -> str:
    files.require(paths.history)  # read last, when much is written already
    test = datasets.load(paths, "test")
    variants = {"float32": paths.onnx, "int8": paths.int8}
    figures, probabilities = {}, {}
    perturbed, bins = scoring.perturb(test.images, params.evaluate), params.evaluate.calibration_bins
    for variant, path in variants.items():
        model = onnx_model.open_for(path, test.images, params.fetch.classes)
        scored, probabilities[variant] = scoring.score(model, test, perturbed, bins)
        figures[variant] = {**scored, "bytes": path.stat().st_size, "sha256": files.sha256(path)}
    figures["int8"]["agreement"] = metrics.agreement(probabilities["float32"], probabilities["int8"])

    files.write_json(paths.metrics, {**figures["float32"], "int8": figures["int8"]})
    files.write_text(paths.per_class, per_class_csv(probabilities, test.labels, params.fetch.classes))
    files.write_text(paths.predictions, predictions_csv(test.labels, probabilities["float32"], params.fetch.classes))
    describe(paths, files.read_json(paths.metrics), probabilities["float32"], test.labels, params)
    draw(paths, test, probabilities["float32"], params)
    files.write_json(paths.latency, {name: scoring.latency(path, test.images[0]) for name, path in variants.items()})
    accuracies = " and ".join(f"{figures[name]['accuracy']:.2%} ({name})" for name in variants)
    return f"accuracy {accuracies} on {len(test.images):,} test images"


if __name__ == "__main__":
    sys.exit(console.run_stage("evaluate", run, __doc__))
