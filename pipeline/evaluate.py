"""Score the exported ONNX files on the test split: metrics, tables and plots.

Write data/evaluation.

Example:
    python -m pipeline.evaluate
"""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.core import console, files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data import datasets, history
from pipeline.data.datasets import Split
from pipeline.evaluation import contract, evaluator, metrics, model_card, perturbations, slices, tables, tolerance
from pipeline.inference import onnx_model
from pipeline.inference.onnx_model import OnnxModel, Probabilities


def measure(test: Split, params: Params, paths: Paths) -> tuple[dict[str, Any], dict[str, Probabilities]]:
    """The content of metrics.json, and the probabilities of the test images by each variant, float32 and int8."""
    measured: dict[str, Any] = {}
    probabilities: dict[str, Probabilities] = {}
    perturbed, bins = perturbations.perturb(test.images, params.evaluate), params.evaluate.calibration_bins
    for variant, path in paths.models().items():
        model = onnx_model.open_for(path, test.images, params.fetch.classes)
        found, probabilities[variant] = evaluator.evaluate(model, test, perturbed, bins)
        measured[variant] = {**found, "bytes": path.stat().st_size, "sha256": files.sha256(path)}
        if variant == "float32" and (parts := datasets.recent_slices(paths, params.evaluate.recent_sets)):
            measured[variant]["slices"] = slices.measure(model, parts, params.fetch.classes)
    if int8 := measured.get("int8"):
        int8["agreement"] = metrics.agreement(probabilities["float32"], probabilities["int8"])
    return measured.pop("float32") | measured, probabilities


def write_contract(params: Params, paths: Paths) -> dict[str, Any]:
    """Write and return the contract of the model files."""
    train = datasets.open_split(paths, "train")
    images = contract.first_images(train.images, train.labels)
    layers = onnx_model.dense_layers(paths.onnx)
    described = {}
    for path in paths.models().values():
        expected, hidden = OnnxModel(path).predict(images), onnx_model.hidden_layers(onnx_model.load(path), images)
        bound = tolerance.derive(layers, images, hidden, expected)
        described[path.name] = contract.ModelFile(files.sha256(path), expected, bound)
    versions, layout = onnx_model.versions(paths.onnx), params.predict.layout
    content = contract.build(described, *versions, params.fetch.classes, images, layout)
    files.write_json(paths.contract, content)
    return content


def write_model_card(
    measured: Mapping[str, Any], counts: metrics.Counts, contract_json: Mapping[str, Any], params: Params, paths: Paths
) -> None:
    """Write the model card from metrics.json, the confusion matrix, the contract and parity.json."""
    rows = [{"class": name, **row} for name, row in zip(params.fetch.classes, metrics.per_class(counts), strict=True)]
    chosen = params.model_dump(include={"model", "train", "evaluate"})
    manifest, parity = files.read_json(paths.manifest), files.read_json(paths.parity)
    text = model_card.render(manifest, chosen, measured, rows, contract_json, parity["int8"])
    files.write_text(paths.model_card, text)


def draw(test: Split, probabilities: Probabilities, measured: Mapping[str, Any], params: Params, paths: Paths) -> None:
    """Draw all plots into data/evaluation/plots."""
    from pipeline.evaluation import plots, style  # matplotlib takes a second: imported once the metrics are written

    classes, bins = params.fetch.classes, params.evaluate.calibration_bins
    train = datasets.open_split(paths, "train")
    layers = onnx_model.dense_layers(paths.onnx)
    sizes = {name: np.bincount(split.labels, minlength=len(classes)) for name, split in (("train", train), ("test", test))}
    figures = {
        "training_curves": plots.training_curves(history.read(paths.history)),
        "confusion_matrix": plots.confusion_matrix(metrics.confusion(test.labels, probabilities), classes),
        "worst_mistakes": plots.worst_mistakes(test, probabilities, classes, params.evaluate.gallery),
        "calibration": plots.calibration(metrics.reliability(test.labels, probabilities, bins)),
        "class_distribution": plots.class_distribution(sizes, classes),
        "hidden_neurons": plots.hidden_neurons(layers[0].kernel, test.images.shape[1:]),
        "layers": plots.layer_diagram(test.images.shape[1:], layers),
    }
    if "slices" in measured:
        figures["slices"] = plots.slices(measured["accuracy"], len(test.labels), measured["slices"])
    with files.replacing_folder(paths.plots) as folder:
        for name, figure in figures.items():
            style.save(figure, folder / f"{name}.png")


def run(params: Params, paths: Paths) -> str:
    for path in (paths.history, paths.parity):  # needed last, but missing inputs are reported before anything is written
        files.require(path)
    test, classes = datasets.load(paths, "test"), params.fetch.classes
    measured, probabilities = measure(test, params, paths)
    float32 = probabilities["float32"]
    files.write_json(paths.metrics, measured)
    files.write_text(paths.per_class, tables.per_class(probabilities, test.labels, classes))
    files.write_text(paths.predictions, tables.predictions(test.labels, float32, classes))
    contract_json = write_contract(params, paths)
    write_model_card(measured, metrics.confusion(test.labels, float32), contract_json, params, paths)
    draw(test, float32, measured, params, paths)
    latency = {name: evaluator.latency(path, test.images[0]) for name, path in paths.models().items()}
    files.write_json(paths.latency, latency)
    int8 = f" and {measured['int8']['accuracy']:.2%} (int8)" if "int8" in measured else ""
    recent = measured.get("slices", {}).get(datasets.RECENT)
    today = f", {recent['accuracy']:.2%} on {recent['images']:,} recent ones" if recent else ""
    return f"accuracy {measured['accuracy']:.2%} (float32){int8} on {len(test.images):,} test images{today}"


if __name__ == "__main__":
    sys.exit(console.run_stage("evaluate", run, __doc__))
