"""Evaluate two small ONNX files on the subset; the expected values come from NumPy."""

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from PIL import Image

from pipeline import evaluate
from pipeline.core import files
from pipeline.core.errors import MissingInputError, UnusableInputError
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data.datasets import Split
from pipeline.inference import convert
from pipeline.inference.onnx_model import OnnxModel
from tests.conftest import Repository, small_repository
from tests.imports import ROOT
from tests.inference.test_onnx_model import Layer, forward, write_network

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
PLOTS = {
    "calibration",
    "class_distribution",
    "confusion_matrix",
    "hidden_neurons",
    "layers",
    "training_curves",
    "worst_mistakes",
}
HISTORY = "epoch,loss,accuracy,val_loss,val_accuracy\n1,0.9,0.7,0.5,0.85\n2,0.4,0.88,0.3,0.91\n"


def fitted(train: Split) -> list[Layer]:
    """A network of random features and a least-squares fit: a fair accuracy within milliseconds."""
    random = np.random.default_rng(0)
    kernel = random.normal(scale=0.1, size=(784, 100)).astype(np.float32)
    bias = random.normal(size=100).astype(np.float32)
    features = np.column_stack([forward([(kernel, bias, "Relu")], train.images), np.ones(len(train.images))])
    solution = np.linalg.lstsq(features, 8 * np.eye(10)[train.labels], rcond=None)[0].astype(np.float32)
    return [(kernel, bias, "Relu"), (solution[:-1], solution[-1], "Softmax")]


@dataclass(frozen=True)
class Evaluated:
    """A tree in which evaluate has run, with its inputs and its result."""

    params: Params
    paths: Paths
    result: str
    test: Split
    expected: npt.NDArray[np.float64]  # the probabilities of the float32 model, from numpy


def prepared(root: Path, subset: dict[str, Split]) -> Repository:
    tree = small_repository(root, subset, {"fetch.classes": NAMES})
    tree.paths.model.mkdir(parents=True)
    write_network(tree.paths.onnx, fitted(subset["train"]), (28, 28))
    onnx.save(convert.quantize(onnx.load(tree.paths.onnx), subset["train"].images), tree.paths.int8)
    files.write_json(tree.paths.parity, {"int8": "exported"})
    files.write_text(tree.paths.history, HISTORY)
    return tree


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, subset: dict[str, Split]) -> Evaluated:
    tree = prepared(tmp_path_factory.mktemp("evaluated"), subset)
    result = evaluate.run(tree.params, tree.paths)
    return Evaluated(tree.params, tree.paths, result, subset["test"], forward(fitted(subset["train"]), subset["test"].images))


@pytest.fixture
def copied(evaluated: Evaluated, tmp_path: Path) -> Paths:
    """A copy of the tree that a test may change."""
    shutil.copytree(evaluated.paths.root, tmp_path / "copy")
    return Paths(tmp_path / "copy")


def metrics_of(evaluated: Evaluated) -> Any:
    return files.read_json(evaluated.paths.metrics)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_both_variants_have_every_metric(evaluated: Evaluated) -> None:
    common = {
        "accuracy",
        "log_loss",
        "calibration_error",
        "worst_recall",
        "shifted_accuracy",
        "rotated_accuracy",
        "noisy_accuracy",
        "bytes",
        "sha256",
    }

    assert metrics_of(evaluated).keys() == common | {"int8"}
    assert metrics_of(evaluated)["int8"].keys() == common | {"agreement"}


def test_the_hashes_of_the_files_are_in_the_metrics_and_on_the_model_card(evaluated: Evaluated) -> None:
    hashes = [files.sha256(path) for path in (evaluated.paths.onnx, evaluated.paths.int8)]

    assert [metrics_of(evaluated)["sha256"], metrics_of(evaluated)["int8"]["sha256"]] == hashes
    text = evaluated.paths.model_card.read_text(encoding="utf-8")
    assert all(f"`{sha256}`" in text for sha256 in hashes)


def test_accuracy_is_exact(evaluated: Evaluated) -> None:
    correct = int((evaluated.expected.argmax(axis=1) == evaluated.test.labels).sum())

    assert 700 < correct < 1000
    assert metrics_of(evaluated)["accuracy"] == correct / 1000


def test_log_loss_and_worst_recall_are_computed_from_the_probabilities(evaluated: Evaluated) -> None:
    labels, predicted = evaluated.test.labels, evaluated.expected.argmax(axis=1)
    label_probabilities = evaluated.expected[np.arange(1000), labels]

    assert metrics_of(evaluated)["log_loss"] == pytest.approx(-np.log(label_probabilities).mean(), rel=1e-4)
    assert metrics_of(evaluated)["worst_recall"] == min((predicted[labels == label] == label).mean() for label in range(10))


def test_shifted_accuracy_is_the_mean_over_four_directions(evaluated: Evaluated, subset: dict[str, Split]) -> None:
    images, layers = evaluated.test.images, fitted(subset["train"])
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    windows = [(0, 2), (4, 2), (2, 0), (2, 4)]  # top left corners of 28x28 windows in the padded images

    accuracies = [
        (forward(layers, padded[:, top : top + 28, left : left + 28]).argmax(axis=1) == evaluated.test.labels).mean()
        for top, left in windows
    ]

    assert metrics_of(evaluated)["shifted_accuracy"] == pytest.approx(np.mean(accuracies), abs=1e-12)


@pytest.mark.parametrize("metric", ["shifted_accuracy", "rotated_accuracy", "noisy_accuracy"])
def test_perturbed_images_lower_the_accuracy_but_not_to_chance(metric: str, evaluated: Evaluated) -> None:
    assert 0.3 < metrics_of(evaluated)[metric] < metrics_of(evaluated)["accuracy"]


def test_int8_metrics_come_from_the_int8_file(evaluated: Evaluated) -> None:
    int8 = OnnxModel(evaluated.paths.int8).predict(evaluated.test.images).argmax(axis=1)
    found = metrics_of(evaluated)

    assert found["int8"]["accuracy"] == (int8 == evaluated.test.labels).mean()
    assert found["int8"]["agreement"] == (int8 == evaluated.expected.argmax(axis=1)).mean()
    assert found["int8"]["bytes"] == evaluated.paths.int8.stat().st_size < found["bytes"]
    assert found["bytes"] == evaluated.paths.onnx.stat().st_size


def test_the_per_class_table_has_a_row_for_each_variant_and_class(evaluated: Evaluated) -> None:
    table = rows(evaluated.paths.per_class)
    labels, predicted = evaluated.test.labels, evaluated.expected.argmax(axis=1)

    assert [(row["variant"], row["class"]) for row in table] == [(v, name) for v in ("float32", "int8") for name in NAMES]
    for label, row in enumerate(table[:10]):
        assert int(row["images"]) == (labels == label).sum()
        assert float(row["recall"]) == (predicted[labels == label] == label).mean()
        assert float(row["precision"]) == (labels[predicted == label] == label).mean()
        assert float(row["f1"]) == pytest.approx(
            2 * float(row["precision"]) * float(row["recall"]) / (float(row["precision"]) + float(row["recall"]))
        )


def test_the_predictions_name_the_actual_and_the_predicted_class_of_each_test_image(evaluated: Evaluated) -> None:
    predicted = evaluated.expected.argmax(axis=1)

    assert rows(evaluated.paths.predictions) == [
        {"actual": NAMES[label], "predicted": NAMES[prediction]}
        for label, prediction in zip(evaluated.test.labels, predicted, strict=True)
    ]


def test_latency_is_measured_for_both_variants(evaluated: Evaluated) -> None:
    latency = files.read_json(evaluated.paths.latency)

    assert latency.keys() == {"float32", "int8"}
    for percentiles in latency.values():
        assert 0 < percentiles["p50_microseconds"] <= percentiles["p99_microseconds"]


def test_the_plots_are_complete_and_name_no_software(evaluated: Evaluated) -> None:
    plots = {path.stem: Image.open(path) for path in evaluated.paths.plots.glob("*.png")}

    assert plots.keys() == PLOTS
    for plot in plots.values():
        plot.load()
        assert plot.info.keys() == {"dpi"}
        assert min(plot.size) > 200


def test_the_folder_of_plots_has_the_permissions_of_its_parent(evaluated: Evaluated) -> None:
    assert evaluated.paths.plots.stat().st_mode == evaluated.paths.evaluation.stat().st_mode


def test_the_console_line_gives_both_accuracies(evaluated: Evaluated) -> None:
    found = metrics_of(evaluated)

    expected = f"{found['accuracy']:.2%} (float32) and {found['int8']['accuracy']:.2%} (int8)"
    assert evaluated.result == f"accuracy {expected} on 1,000 test images"


def test_another_process_writes_the_same_bytes_and_loads_no_tensorflow(evaluated: Evaluated, copied: Paths) -> None:
    (copied.plots / "stale.png").write_bytes(b"")
    heavy = ["tensorflow", "keras", "tf2onnx", "mlflow", "pandas", "great_expectations"]
    code = f"""if True:
        import json, sys
        from pipeline import evaluate
        from pipeline.core import params, paths
        evaluate.run(params.load(paths.Paths().params), paths.Paths())
        print(json.dumps([name for name in {heavy} if name in sys.modules]))
    """

    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=copied.root, env=environment, check=True, capture_output=True, text=True)

    assert json.loads(ended.stdout) == []
    folders = [evaluated.paths.evaluation, copied.evaluation]
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*") if path.name != "latency.json"}
        for folder in folders
    )
    assert first == second


@pytest.mark.parametrize("missing", ["onnx", "int8", "history", "parity", "manifest"])
def test_a_missing_input_is_named_before_anything_is_written(missing: str, evaluated: Evaluated, copied: Paths) -> None:
    path = getattr(copied, missing)
    path.unlink()
    shutil.rmtree(copied.evaluation)

    with pytest.raises(MissingInputError, match=path.name):
        evaluate.run(evaluated.params, copied)

    assert not copied.evaluation.exists()


def test_without_int8_everything_is_about_model_onnx(evaluated: Evaluated, copied: Paths) -> None:
    copied.int8.write_bytes(b"")
    files.write_json(copied.parity, {"int8": "left out: found 0.9"})

    result = evaluate.run(evaluated.params, copied)

    metrics, contract = files.read_json(copied.metrics), files.read_json(copied.contract)
    assert metrics == {name: value for name, value in metrics_of(evaluated).items() if name != "int8"}
    assert contract["files"].keys() == {"model.onnx"}
    assert "model.int8.onnx" not in contract["test_vectors"]
    assert files.read_json(copied.latency).keys() == {"float32"}
    assert {row["variant"] for row in rows(copied.per_class)} == {"float32"}
    assert "`model.int8.onnx` was left out: found 0.9." in copied.model_card.read_text(encoding="utf-8")
    assert "int8" not in result


def test_a_model_for_other_images_or_classes_is_refused(evaluated: Evaluated, copied: Paths) -> None:
    small = [(np.zeros((20, 3), np.float32), None, "Softmax")]
    write_network(copied.onnx, small, (4, 5))

    with pytest.raises(UnusableInputError) as raised:
        evaluate.run(evaluated.params, copied)

    expected, found = "a model for images of 28x28 and 10 classes", "a model for images of 4x5 and 3 classes"
    assert f"model.onnx: expected {expected}, found {found}" in str(raised.value)
