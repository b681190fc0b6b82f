"""Evaluation by slice: metrics, page and picture say how good the model is on recent images."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import evaluate, fetch
from pipeline.core import files
from pipeline.core.paths import Paths
from pipeline.data.datasets import Split
from pipeline.inference.onnx_model import OnnxModel
from pipeline.tracking import run_content
from tests.conftest import Repository, edit_params
from tests.worlds import changed


@pytest.fixture
def tree(built: Repository, mnist: dict[str, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """The built tree, with two recent data sets beside its data."""
    shutil.copytree(built.paths.root, tmp_path / "tree", ignore=shutil.ignore_patterns("mlruns", "explorer"))
    monkeypatch.chdir(tmp_path / "tree")
    entries = []
    for number, name in enumerate(("first", "second")):
        rows = slice(20_000 + 100 * number, 20_100 + 100 * number)
        images, labels = changed(mnist["train"].images[rows]), mnist["train"].labels[rows]
        np.savez(f"{name}.npz", x_train=images[:40], y_train=labels[:40], x_test=images[40:], y_test=labels[40:])
        entries.append({"name": name, "source": f"{name}.npz", "kind": "recent"})
    params = edit_params(Path("params.yaml"), {"fetch.extra": entries, "evaluate.recent_sets": 1})
    fetch.run(params, Paths())
    return Paths()


def test_each_slice_has_its_accuracy_with_an_interval_and_the_recall_of_each_class(
    tree: Paths, mnist: dict[str, Split]
) -> None:
    from pipeline.core import params

    printed = evaluate.run(params.load(tree.params), tree)

    slices = files.read_json(tree.metrics)["slices"]
    assert list(slices) == ["recent", "first", "second"]
    assert slices["recent"] == slices["second"]  # the newest set alone
    images, labels = changed(mnist["train"].images[20_040:20_100]), mnist["train"].labels[20_040:20_100]
    right = OnnxModel(tree.onnx).predict(images).argmax(axis=1) == labels
    found = slices["first"]
    assert (found["images"], found["accuracy"]) == (60, pytest.approx(right.mean()))
    assert found["interval"]["low"] < found["accuracy"] < found["interval"]["high"]
    assert found["recall"] == {str(label): pytest.approx(right[labels == label].mean()) for label in np.unique(labels)}
    assert f"{slices['recent']['accuracy']:.2%} on 60 recent ones" in printed
    card = tree.model_card.read_text()
    assert f"| first | 60 | {found['accuracy']:.2%} [" in card
    with Image.open(tree.plots / "slices.png") as picture:
        assert picture.width > 600


def test_the_run_names_the_metrics_by_slice() -> None:
    flat = run_content.flatten({"slice": {"recent": {"accuracy": 0.9, "interval": {"low": 0.8}}}}, separator="/")

    assert flat == {"slice/recent/accuracy": 0.9, "slice/recent/interval/low": 0.8}
