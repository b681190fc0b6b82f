"""Drift on MNIST and a trained model: how often it raises false alarms, and how often it detects changes."""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest

from pipeline import drift as drift_verb
from pipeline.core import files
from pipeline.core import params as parameters
from pipeline.core.params import DriftParams
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.data.datasets import Pixels, Split
from pipeline.evaluation import perturbations
from pipeline.inference.onnx_model import OnnxModel
from pipeline.monitoring import drift
from pipeline.monitoring.drift import Features, TooFewImagesError
from pipeline.serving.errors import UnreadableImageError
from pipeline.tracking.errors import TrackingError
from tests import web
from tests.conftest import Repository, edit_params, idx
from tests.imports import ROOT

ROUNDS = 200
CLASSES = 10
IMAGES = 2000


@pytest.fixture(scope="module")
def shipped() -> DriftParams:
    """The thresholds in the repository's params.yaml."""
    return parameters.load(ROOT / "params.yaml").drift


def bounds(alpha: float, min_effect_size: float) -> DriftParams:
    return DriftParams(alpha=alpha, min_effect_size=min_effect_size, min_images=1, gallery=1)


@pytest.fixture(scope="module")
def reference(built: Repository) -> Features:
    images = datasets.open_split(built.paths, "train").images
    return drift.reference_features(OnnxModel(built.paths.onnx), images, built.params, built.paths)


@pytest.fixture(scope="module")
def features_of(built: Repository) -> Callable[[Pixels], Features]:
    model = OnnxModel(built.paths.onnx)
    return lambda images: drift.served_features(model, images)


@pytest.fixture(scope="module")
def unseen(mnist: dict[str, Split], features_of: Callable[[Pixels], Features]) -> Features:
    """Features of the 10,000 test images, which were not used to choose the thresholds."""
    return features_of(mnist["test"].images)


def batches(features: Features, size: int) -> list[Features]:
    """Random batches of `size` images, drawn without replacement."""
    random, count = np.random.default_rng(0), len(features[drift.PREDICTED_CLASS])
    chosen = [random.choice(count, size, replace=False) for _ in range(ROUNDS)]
    return [{name: values[indices] for name, values in features.items()} for indices in chosen]


def alarms(reference: Features, served: list[Features], params: DriftParams) -> int:
    return sum(any(check.drifted for check in drift.compare(reference, batch, CLASSES, params)) for batch in served)


@pytest.mark.parametrize("size", [100, 500, 5000])
def test_unseen_images_raise_false_alarms_no_more_often_than_alpha(
    size: int, reference: Features, unseen: Features, shipped: DriftParams
) -> None:
    raised = alarms(reference, batches(unseen, size), shipped)

    assert binomtest(raised, ROUNDS, shipped.alpha, alternative="greater").pvalue > 0.001


def test_consecutive_images_of_few_writers_raise_false_alarms_no_more_often_than_alpha(
    mnist: dict[str, Split], shipped: DriftParams
) -> None:
    """Requests arrive like the training images, writer by writer, and not in random order."""
    known, size = drift.image_features(mnist["train"].images), shipped.min_images
    starts = range(0, len(mnist["train"].images), size)
    blocks = [{name: values[start : start + size] for name, values in known.items()} for start in starts]

    raised = alarms(known, blocks, shipped)

    assert binomtest(raised, len(blocks), shipped.alpha, alternative="greater").pvalue > 0.001


def test_all_checks_together_raise_false_alarms_no_more_often_than_alpha(unseen: Features) -> None:
    """Both samples come from one pool and any effect size counts, so only Holm's correction limits false alarms."""
    random, raised, params = np.random.default_rng(0), 0, bounds(alpha=0.1, min_effect_size=0)
    for _ in range(ROUNDS):
        order = random.permutation(3000)
        known, served = ({name: values[rows] for name, values in unseen.items()} for rows in (order[:2400], order[2400:]))
        raised += alarms(known, [served], params)

    assert binomtest(raised, ROUNDS, params.alpha, alternative="greater").pvalue > 0.001
    assert raised > 0


def shapes(count: int) -> Pixels:
    """Filled, textured shapes like clothes, some wide, some tall."""
    random = np.random.default_rng(0)
    row, column = np.mgrid[:28, :28] - 13.5
    images = []
    for _ in range(count):
        height, width, taper, frequency = random.uniform((8, 5, -0.3, 0), (13, 12, 0.3, 2))
        inside = (np.abs(row) < height) & (np.abs(column) < width + taper * row)
        texture = random.uniform(60, 220) + 30 * np.sin(frequency * row) + random.normal(0, 10, (28, 28))
        images.append(np.where(inside, np.clip(texture, 1, 255), 0).astype(np.uint8))
    return np.array(images)


CHANGES: dict[str, Callable[[Split], Pixels]] = {
    "rotated": lambda test: perturbations.rotate(test.images[:IMAGES], 30),
    "inverted": lambda test: 255 - test.images[:IMAGES],
    "noisy": lambda test: perturbations.add_noise(test.images[:IMAGES], 25),
    "moved": lambda test: perturbations.shift(test.images[:IMAGES], 4, 4),
    "two classes": lambda test: test.images[np.isin(test.labels, (3, 8))],
    "shapes": lambda test: shapes(IMAGES),
}


@pytest.mark.parametrize("change", CHANGES)
def test_drift_is_detected(
    change: str,
    reference: Features,
    mnist: dict[str, Split],
    features_of: Callable[[Pixels], Features],
    shipped: DriftParams,
) -> None:
    changed = features_of(CHANGES[change](mnist["test"]))

    assert alarms(reference, batches(changed, 500), shipped) >= 0.95 * ROUNDS


def test_a_small_difference_in_many_images_raises_no_alarm(shipped: DriftParams) -> None:
    random = np.random.default_rng(0)
    brightness = random.normal(100, 20, 400_000)

    (check,) = drift.compare(
        {"mean_intensity": brightness[:200_000]}, {"mean_intensity": brightness[200_000:] + 1}, CLASSES, shipped
    )

    assert check.p_value < 1e-30
    assert not check.drifted


def test_the_effect_size_is_the_largest_difference_of_distributions_and_of_class_shares() -> None:
    reference = {"ink_fraction": np.arange(100.0), drift.PREDICTED_CLASS: np.repeat([0.0, 1.0], 50)}
    served = {"ink_fraction": np.arange(25.0, 125.0), drift.PREDICTED_CLASS: np.repeat([0.0, 1.0, 2.0], [40, 40, 20])}

    ink, classes = drift.compare(reference, served, 3, bounds(alpha=0.01, min_effect_size=0.1))

    assert ink.effect_size == pytest.approx(0.25)  # a quarter of the reference lies below every served value
    assert classes.effect_size == pytest.approx(0.2)  # a fifth would have to change its class
    # Chi-squared of [[50, 50, 0], [40, 40, 20]] is 20 + 20 / 9 with 2 degrees of freedom. Its p-value is the smaller of two.
    assert classes.p_value == pytest.approx(2 * np.exp(-(20 + 20 / 9) / 2))
    assert classes.drifted


def test_p_values_are_corrected_by_holms_method() -> None:
    corrected = drift._holm({"a": 0.01, "b": 0.04, "c": 0.03})

    assert corrected == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})  # 3 * 0.01, 2 * 0.03, and b no less than c


def test_rare_classes_raise_no_false_alarms() -> None:
    random, raised, params = np.random.default_rng(0), 0, bounds(alpha=0.01, min_effect_size=0)
    for _ in range(ROUNDS):
        weights = random.dirichlet(np.full(200, 0.1))
        reference, served = (
            {drift.PREDICTED_CLASS: random.choice(200, size, p=weights).astype(float)} for size in (4800, 100)
        )
        raised += drift.compare(reference, served, 200, params)[0].drifted

    assert binomtest(raised, ROUNDS, params.alpha, alternative="greater").pvalue > 0.001


def test_the_most_unusual_images_come_first_with_their_most_unusual_feature(reference: Features, unseen: Features) -> None:
    served = {name: values[:50].copy() for name, values in unseen.items()}
    served["ink_fraction"][7], served["mean_intensity"][9] = 5.0, 2550.0

    unusual = drift.most_unusual(reference, served, 5)

    assert unusual[:2] == [(9, "mean_intensity"), (7, "ink_fraction")]
    assert len({index for index, _ in unusual}) == 5


@pytest.fixture
def repository(built: Repository, tmp_path: Path) -> Repository:
    """A copy of the built tree with an empty store."""
    shutil.copytree(built.paths.root / "data", tmp_path / "data")
    shutil.copy(built.paths.params, tmp_path)
    return Repository(built.params, Paths(tmp_path))


def run_drift(repository: Repository, source: Path, check: bool = True) -> int:
    """Run drift, by default with `--check`, and return its exit code."""
    return drift_verb.run(argparse.Namespace(source=str(source), check=check), repository.params, repository.paths)


def test_drift_is_printed_plotted_logged_and_sets_the_exit_code(
    repository: Repository, mnist: dict[str, Split], tmp_path: Path
) -> None:
    (folder := tmp_path / "served").mkdir()
    inverted = 255 - mnist["test"].images[:600]
    np.save(folder / "a.npy", inverted[:200])
    np.savez_compressed(folder / "b.npz", images=inverted[200:400], answers=np.zeros(200))
    (folder / "c-idx3-ubyte").write_bytes(idx(inverted[400:]))
    command = [sys.executable, "-m", "pipeline.drift", str(folder), "--check"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 3, done.stderr
    assert "  drift   mean_intensity: effect size 1.000 (threshold 0.2), p < 1e-99 (threshold 0.01)\n" in done.stdout
    assert done.stdout.splitlines()[-1].endswith(" in 600 images; report and plots: data/drift")
    assert run_drift(repository, folder, check=False) == 0
    report = files.read_json(repository.paths.drift_report)
    assert report["drifted"] is True
    assert report["images"]["served"] == dict.fromkeys(report["checks"], 600)
    assert report["images"]["reference"] == {
        "ink_fraction": 3000,
        "mean_intensity": 3000,
        "confidence": 240,
        "predicted_class": 240,
    }
    assert report["medians"]["served"]["mean_intensity"] > 200 > 50 > report["medians"]["reference"]["mean_intensity"]
    client: Any = mlflow.MlflowClient(repository.paths.tracking_uri)
    runs = client.search_runs([client.get_experiment_by_name(repository.params.tracking.experiment).experiment_id])
    assert [(run.info.run_name, run.info.status) for run in runs] == [("drift", "FINISHED")] * 2
    assert runs[0].data.tags.items() >= {"report": "drift", "drifted": "true", "onnx_sha256": report["onnx_sha256"]}.items()
    assert runs[0].data.metrics["drift/mean_intensity/effect_size"] == 1
    artifacts = {entry.path for entry in client.list_artifacts(runs[0].info.run_id)}
    assert artifacts == {"report.json", "distributions.png", "gallery.png"}


def test_unseen_images_are_no_drift_and_a_second_run_writes_the_same_files(
    repository: Repository, mnist: dict[str, Split], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "served.npy", mnist["test"].images[::10])
    contents = []

    for _ in range(2):
        assert run_drift(repository, tmp_path / "served.npy") == 0
        contents.append({path.name: path.read_bytes() for path in repository.paths.drift.iterdir()})

    assert contents[0] == contents[1]
    assert "no drift in 1,000 images" in capsys.readouterr().out
    assert files.read_json(repository.paths.drift_report)["drifted"] is False


def test_without_validation_images_confidence_is_not_compared(
    repository: Repository, mnist: dict[str, Split], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "served.npy", mnist["test"].images[:500])
    params = edit_params(repository.paths.params, {"train.validation_split": 0.0})

    run_drift(Repository(params, repository.paths), tmp_path / "served.npy")

    assert "skipped confidence: no validation images" in capsys.readouterr().out
    assert set(files.read_json(repository.paths.drift_report)["checks"]) == {
        "ink_fraction",
        "mean_intensity",
        "predicted_class",
    }


def test_the_result_is_printed_even_if_the_store_does_not_respond(
    repository: Repository,
    mnist: dict[str, Split],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.save(tmp_path / "served.npy", 255 - mnist["test"].images[:500])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", web.closed())
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    with pytest.raises(TrackingError, match="Files already written are kept"):
        run_drift(repository, tmp_path / "served.npy")

    assert " in 500 images" in capsys.readouterr().out
    assert files.read_json(repository.paths.drift_report)["drifted"] is True


@pytest.mark.parametrize(
    ("name", "write", "expected"),
    [
        ("few.npy", lambda path: np.save(path, np.zeros((499, 28, 28), np.uint8)), "at least 500 images .*, found 499"),
        (
            "wide.npy",
            lambda path: np.save(path, np.zeros((9, 28, 29), np.uint8)),
            r"expected uint8 \(n, 28, 28\), found uint8 \(9, 28, 29\)",
        ),
        ("float.npy", lambda path: np.save(path, np.zeros((9, 28, 28))), "found float64"),
        ("pickle.npy", lambda path: np.save(path, np.array([{}]), allow_pickle=True), "an npy file of numbers"),
        ("two.npz", lambda path: np.savez(path, a=np.zeros(1), b=np.zeros(1)), "one named images, found 'a', 'b'"),
        (
            "cut.npz",
            lambda path: path.write_bytes(b"PK\3\4cut"),
            "expected an npz file, found a truncated or corrupt zip archive",
        ),
        ("labels-idx1-ubyte", lambda path: path.write_bytes(idx(np.zeros(9, np.uint8))), "found labels of 1"),
        ("cut-idx3-ubyte", lambda path: path.write_bytes(idx(np.zeros((9, 28, 28), np.uint8))[:100]), "truncated"),
        ("cut-idx3-ubyte.gz", lambda path: path.write_bytes(b"\x1f\x8bcut"), "expected an IDX file"),
        ("photo.png", lambda path: Image.new("L", (28, 28)).save(path), r"another file type \(\*.png\)"),
        ("absent.npy", lambda path: None, "absent.npy: expected an npy file of numbers, found .*No such file"),
        ("folder", lambda path: path.mkdir(), "found an empty folder"),
    ],
)
def test_an_unusable_source_is_refused_and_nothing_is_written(
    name: str, write: Callable[[Path], Any], expected: str, built: Repository, tmp_path: Path
) -> None:
    write(tmp_path / name)

    with pytest.raises((UnreadableImageError, TooFewImagesError), match=expected) as caught:
        run_drift(built, tmp_path / name)

    assert name in str(caught.value)
    assert not built.paths.drift.exists()
