"""False alarms and detections, on images that the model has never seen, and the report in a real store."""

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import binomtest

from pipeline import drift as verb
from pipeline.core import datasets, drift, files, params
from pipeline.core.datasets import Pixels, Split
from pipeline.core.errors import TooFewImagesError, UnreadablePictureError
from pipeline.core.inference import OnnxModel
from pipeline.core.params import DriftParams
from pipeline.core.paths import Paths
from tests.conftest import Repository
from tests.imports import ROOT

BATCHES, SIZE = 200, 500


@pytest.fixture(scope="module")
def bounds() -> DriftParams:
    return params.load(ROOT / "params.yaml").drift


@pytest.fixture(scope="module")
def model(built: Repository) -> OnnxModel:
    return OnnxModel(built.paths.onnx)


@pytest.fixture(scope="module")
def reference(mnist: dict[str, Split], model: OnnxModel) -> drift.Features:
    """Images that the model of the tests was not fitted on: it saw the first 3,000."""
    images = np.array(mnist["train"].images[50_000:])
    return drift.features(images, model.predict(images))


def alarms(images: Pixels, labels: Pixels | None, reference: drift.Features, model: OnnxModel, bounds: DriftParams) -> int:
    """In how many batches, drawn from `images`, drift is found."""
    scored = drift.features(images, model.predict(images))
    random = np.random.default_rng(0)
    found = 0
    for _ in range(BATCHES):
        drawn = random.integers(0, len(images), SIZE)
        batch = {name: values[drawn] for name, values in scored.items()}
        found += any(check.drifted for check in drift.compare(reference, batch, model.classes, bounds))
    return found


def test_unseen_images_of_the_same_kind_raise_an_alarm_no_more_often_than_alpha(
    mnist: dict[str, Split], reference: drift.Features, model: OnnxModel, bounds: DriftParams
) -> None:
    false = alarms(np.array(mnist["test"].images), None, reference, model, bounds)

    # As many as alpha makes likely, and not so many more that chance would not explain them.
    assert binomtest(false, BATCHES, bounds.alpha, alternative="greater").pvalue > 0.01


def rotated(images: Pixels) -> Pixels:
    return np.asarray(ndimage.rotate(images, 40, axes=(2, 1), reshape=False, order=1))


def noisy(images: Pixels) -> Pixels:
    noise = np.random.default_rng(0).normal(0, 40, images.shape)
    return np.asarray(np.clip(images + noise, 0, 255), dtype=np.uint8)


def garments(images: Pixels) -> Pixels:
    """Filled shapes with a texture, as pictures of clothes are."""
    random = np.random.default_rng(0)
    made = np.zeros_like(images)
    for image in made:
        top, left = random.integers(1, 6, 2)
        bottom, right = random.integers(20, 27, 2)
        image[top:bottom, left:right] = random.integers(60, 255) - random.integers(0, 50, (bottom - top, right - left))
    return made


@pytest.mark.parametrize("change", [rotated, noisy, garments, lambda images: 255 - images], ids=str)
def test_images_of_another_kind_are_found(
    change: Callable[[Pixels], Pixels],
    mnist: dict[str, Split],
    reference: drift.Features,
    model: OnnxModel,
    bounds: DriftParams,
) -> None:
    images = change(np.array(mnist["test"].images[:5000]))

    assert alarms(images, None, reference, model, bounds) >= 0.95 * BATCHES


def test_another_mix_of_classes_is_found(
    mnist: dict[str, Split], reference: drift.Features, model: OnnxModel, bounds: DriftParams
) -> None:
    test = mnist["test"]
    few = np.array(test.images)[np.isin(test.labels, [3, 8])]

    assert alarms(few, None, reference, model, bounds) >= 0.95 * BATCHES


def test_a_difference_too_small_to_matter_is_no_drift_however_many_images(bounds: DriftParams) -> None:
    random = np.random.default_rng(0)

    def drawn(shift: float) -> dict[str, Any]:
        return {"mean_intensity": random.normal(33 + shift, 11, 100_000), drift.DECIDED: np.zeros(100_000)}

    checks = {check.check: check for check in drift.compare(drawn(0), drawn(0.5), 10, bounds)}

    assert checks["mean_intensity"].p_value < bounds.alpha
    assert not checks["mean_intensity"].drifted


def test_p_values_are_corrected_as_holm_says() -> None:
    corrected = drift._holm({"a": 0.01, "b": 0.04, "c": 0.03})

    assert corrected == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})


@pytest.fixture
def repository(built: Repository, tmp_path: Path) -> Repository:
    shutil.copytree(built.paths.root / "data", tmp_path / "data")
    return Repository(built.params, Paths(tmp_path))


def command(repository: Repository, images: Pixels, check: bool = False) -> int:
    source = repository.paths.root / "served"
    source.mkdir(exist_ok=True)
    np.save(source / "images.npy", images)
    return verb.run(argparse.Namespace(source=str(source), check=check), repository.params, repository.paths)


def test_the_report_is_written_logged_and_said(
    repository: Repository, subset: dict[str, Split], capsys: pytest.CaptureFixture[str]
) -> None:
    _, held_out = datasets.hold_out([3000], repository.params.train.validation_split)
    images = np.array(subset["train"].images[held_out])  # the reference itself

    assert command(repository, images, check=True) == 0
    assert f"no drift ({len(images)} images)" in capsys.readouterr().out
    assert command(repository, 255 - images) == 0
    assert command(repository, 255 - images, check=True) == verb.DRIFTED

    assert "the served images have drifted: `make retrain`" in capsys.readouterr().out
    report = files.read_json(repository.paths.drift / "report.json")
    assert report["drifted"] is True
    assert report["checks"]["ink_fraction"]["drifted"] is True
    client = mlflow.MlflowClient(repository.paths.tracking_uri)
    runs = client.search_runs([client.get_experiment_by_name("mnist").experiment_id], "tags.report = 'drift'")
    assert sorted(run.data.tags["drifted"] for run in runs) == ["false", "true", "true"]
    assert {entry.path for entry in client.list_artifacts(runs[0].info.run_id)} == {
        "report.json",
        "distributions.png",
        "least_sure.png",
    }


def test_too_few_images_and_images_of_another_size_are_refused(repository: Repository) -> None:
    with pytest.raises(TooFewImagesError, match=r"expected at least 100 images \(drift.minimum_images\), found 3"):
        command(repository, np.zeros((3, 28, 28), np.uint8))
    with pytest.raises(UnreadablePictureError, match=r"expected uint8 \(n, 28, 28\), found uint8 \(200, 5, 5\)"):
        command(repository, np.zeros((200, 5, 5), np.uint8))
