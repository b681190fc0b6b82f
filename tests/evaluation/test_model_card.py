import copy
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from pipeline.data.datasets import Pixels
from pipeline.evaluation import model_card

CLASSES = ["cat", "dog", "eel"]
FIGURES = {
    "accuracy": 0.9,
    "log_loss": 0.3,
    "calibration_error": 0.02,
    "worst_recall": 0.8,
    "shifted_accuracy": 0.85,
    "rotated_accuracy": 0.86,
    "noisy_accuracy": 0.87,
    "bytes": 1234,
}


@pytest.fixture
def images() -> Pixels:
    return np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


@pytest.fixture
def contract(images: Pixels) -> dict[str, Any]:
    expected = np.full((3, 3), 1 / 3, np.float32)
    return model_card.contract({"model.onnx": "a" * 64}, 18, 8, CLASSES, images, expected)


def written(contract: dict[str, Any]) -> str:
    manifest = {
        "dataset": "animals",
        "licence": "CC0",
        "fingerprint": "f" * 64,
        "files": {"test_images": {"shape": [100, 4, 5], "sha256": "b" * 64}},
    }
    chosen = {
        "model": {"hidden_units": (7, 8)},
        "train": {"seed": 3, "augmentation": {"shift": 1.0}},
        "evaluate": {"shift": 2, "rotation": 10.0, "noise": 25.0},
    }
    rows = [{"class": name, "images": 50, "precision": 0.9, "recall": 0.8, "f1": 0.85} for name in CLASSES]
    figures = {**FIGURES, "int8": {**FIGURES, "agreement": 0.99}}
    return model_card.card(manifest, chosen, figures, rows, contract)


def test_the_card_says_what_a_user_has_to_know(contract: dict[str, Any]) -> None:
    text = written(contract)

    for expected in (
        "animals",
        "CC0",
        "a" * 64,
        "f" * 64,
        "b" * 64,
        "uint8 `(batch, 4, 5)`",
        "float32 `(batch, 3)`",
        "cat, dog, eel",
    ):
        assert expected in text
    for parameter in ("`model.hidden_units`: 7, 8", "`train.seed`: 3", "shift 1.0"):
        assert parameter in text
    assert "int8 file decides as the float32 file does on 99.00%" in text
    assert "a small shift costs it 5.00% of accuracy" in text


def test_shares_have_wilsons_interval(contract: dict[str, Any]) -> None:
    # 90 of 100: (0.9 + z²/200 ± z sqrt(0.09/100 + z²/40000)) / (1 + z²/100) with z = 1.96.
    assert "90.00% [82.56%, 94.48%]" in written(contract)


def test_the_contract_holds_the_vectors_as_json_takes_them(contract: dict[str, Any], images: Pixels) -> None:
    vectors = copy.deepcopy(contract["test_vectors"])

    np.testing.assert_array_equal(np.array(vectors["image"], np.uint8), images)
    np.testing.assert_allclose(vectors["probabilities"], 1 / 3, atol=1e-6)
    assert contract["input"]["shape"] == ["batch", 4, 5]


def test_vectors_show_different_labels(images: Pixels) -> None:
    chosen = model_card.vectors(images, np.array([1, 1, 0], np.uint8))

    np.testing.assert_array_equal(chosen, images[[0, 2]])


@pytest.mark.parametrize(("hits", "count"), [(0, 5), (5, 5), (1, 3), (9908, 10_000)])
def test_wilsons_interval_is_scipys(hits: int, count: int) -> None:
    expected = binomtest(hits, count).proportion_ci(0.95, method="wilson")

    assert model_card.wilson(hits / count, count) == pytest.approx((expected.low, expected.high), abs=1e-12)
