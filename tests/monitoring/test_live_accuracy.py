"""The champion's accuracy on the newest random part: exact intervals, classes, the bound, and where it comes from."""

import shutil
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from scipy.stats import beta

from pipeline.core import files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data.datasets import Split
from pipeline.inference.onnx_model import OnnxModel
from pipeline.monitoring import collected, extra_entry, live_accuracy
from pipeline.monitoring.errors import CollectedError
from tests.conftest import Repository, edit_params


@pytest.fixture
def copy(built: Repository, tmp_path: Path) -> Paths:
    """A copy of the built tree with its store, in which nothing is champion yet."""
    for name in ("data", "mlruns"):
        shutil.copytree(built.paths.root / name, tmp_path / name)
    shutil.copy(built.paths.root / "params.yaml", tmp_path / "params.yaml")
    return Paths(tmp_path)


def collect(paths: Paths, name: str, split: Split, **entry: Any) -> None:
    """Write a collected set with `split` as its random part, and list it."""
    arrays = {"x_test": split.images, "y_test": split.labels.astype(str)}
    collected.write(paths.collected / f"{name}.npz", arrays)
    extra_entry.append(paths.params, {**collected.entry(name, paths, arrays), **entry})


def with_bound(paths: Paths, bound: float) -> Params:
    return edit_params(paths.params, {"monitor.live_accuracy": bound})


@pytest.mark.parametrize(("correct", "images"), [(93, 100), (100, 100), (0, 7), (1, 1)])
def test_the_interval_is_that_of_clopper_and_pearson(correct: int, images: int) -> None:
    low = beta.ppf(0.025, correct, images - correct + 1) if correct else 0
    high = beta.ppf(0.975, correct + 1, images - correct) if correct < images else 1

    assert live_accuracy.share(correct, images).interval == pytest.approx((low, high))


def test_classes_without_images_are_left_out_and_a_bound_counts_only_with_confidence() -> None:
    labels = np.repeat([0, 1], 50).astype(np.uint8)
    predicted = np.where(np.arange(100) < 88, labels, 2)  # 88 of 100 are right: the interval ends at 93.6 %
    split = Split(np.zeros((100, 2, 2), np.uint8), labels)

    surely = live_accuracy.content("set", split, predicted, ("a", "b", "c"), 0.94)
    perhaps = live_accuracy.content("set", split, predicted, ("a", "b", "c"), 0.93)

    assert (surely["below"], perhaps["below"]) == (True, False)
    assert {name: each["correct"] for name, each in surely["per_class"].items()} == {"a": 50, "b": 38}
    assert live_accuracy.sentence(surely).endswith("surely below 94.0% (monitor.live_accuracy)")
    assert "not surely below" in live_accuracy.sentence(perhaps)


def test_the_newest_set_with_a_random_part_is_measured_reported_and_logged(
    copy: Paths, subset: dict[str, Split], capsys: pytest.CaptureFixture[str]
) -> None:
    collect(copy, "old", Split(subset["test"].images[:5], subset["test"].labels[:5]))
    new = Split(subset["test"].images[100:300], (subset["test"].labels[100:300] + 1) % 10)  # the world calls digits otherwise
    collect(copy, "new", new)
    params = with_bound(copy, 0.5)

    reason = live_accuracy.reason_to_retrain(params, copy)

    right = OnnxModel(copy.onnx).predict(new.images).argmax(axis=1) == new.labels
    report = files.read_json(copy.live_accuracy_report)
    assert (report["set"], report["images"], report["correct"]) == ("new", 200, int(right.sum()))
    assert report["below"]
    assert reason == live_accuracy.sentence(report)
    assert reason in capsys.readouterr().out
    (run,) = mlflow.search_runs(
        experiment_names=[params.tracking.experiment], filter_string="tags.report = 'live-accuracy'"
    ).to_dict("records")
    assert run["metrics.live/accuracy"] == pytest.approx(right.mean())
    assert run["tags.below"] == "true"


def test_a_champion_that_is_good_enough_is_no_reason(copy: Paths, subset: dict[str, Split]) -> None:
    collect(copy, "new", Split(subset["test"].images[:50], subset["test"].labels[:50]))

    assert live_accuracy.reason_to_retrain(with_bound(copy, 0.5), copy) is None


def test_without_labels_there_is_no_report(copy: Paths) -> None:
    assert live_accuracy.reason_to_retrain(with_bound(copy, 1), copy) is None
    assert not copy.live_accuracy_report.exists()


def test_images_that_are_released_for_training_are_not_measured(copy: Paths, subset: dict[str, Split]) -> None:
    collect(copy, "new", Split(subset["test"].images[:200], subset["test"].labels[:200]), test_share=0.5)

    found = collected.newest_random_part(with_bound(copy, 0), copy)

    assert found is not None
    assert 60 < len(found[1].labels) < 140


def test_a_set_that_is_not_in_place_is_an_error_that_names_the_remedy(copy: Paths, subset: dict[str, Split]) -> None:
    collect(copy, "new", Split(subset["test"].images[:5], subset["test"].labels[:5]))
    (copy.collected / "new.npz").unlink()

    with pytest.raises(CollectedError, match="dvc pull"):
        live_accuracy.measure(with_bound(copy, 0), copy)
