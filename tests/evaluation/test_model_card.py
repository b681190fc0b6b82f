from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pipeline.evaluation import contract as contracts
from pipeline.evaluation import model_card

CLASSES = ["cat", "dog", "eel"]
METRICS = {
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
def contract() -> dict[str, Any]:
    file = contracts.ModelFile("a" * 64, np.full((3, 3), 1 / 3, np.float32), 1e-6)
    return contracts.build({"model.onnx": file}, 13, 7, CLASSES, np.zeros((3, 4, 5), np.uint8), "mnist")


def render_card(contract: dict[str, Any], int8: str = "exported", classes: Sequence[str] = CLASSES) -> str:
    manifest = {
        "dataset": "animals",
        "licence": "CC0",
        "fingerprint": "f" * 64,
        "files": {"test_images": {"shape": [100, 4, 5], "sha256": "b" * 64}},
    }
    params = {
        "model": {"hidden_units": (7, 8)},
        "train": {"seed": 3, "augmentation": {"shift": 1.0}},
        "evaluate": {"shift": 2, "rotation": 10.0, "noise": 25.0},
    }
    rows = [{"class": name, "images": 50, "precision": 0.9, "recall": 0.8, "f1": 0.85} for name in classes]
    metrics = {**METRICS, "int8": {**METRICS, "agreement": 0.99}} if int8 == "exported" else METRICS
    return model_card.render(manifest, params, metrics, rows, contract, int8)


def test_the_model_card_names_data_parameters_hashes_and_limits(contract: dict[str, Any]) -> None:
    text = render_card(contract)

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
    assert "predict the same class for 99.00% of the images" in text
    assert "a small shift costs 5.00% of accuracy" in text


def test_shares_have_wilsons_interval(contract: dict[str, Any]) -> None:
    # 90 of 100: (0.9 + z²/200 ± z sqrt(0.09/100 + z²/40000)) / (1 + z²/100) with z = 1.96.
    assert "90.00% [82.56%, 94.48%]" in render_card(contract)


def test_the_model_card_says_why_there_is_no_int8_file(contract: dict[str, Any]) -> None:
    text = render_card(contract, int8="left out: expected agreement of at least 0.995 (export.int8_agreement), found 0.9927")

    assert "`model.int8.onnx` was left out: expected agreement of at least 0.995" in text
    assert "| | model.onnx |" in text.replace("|  |", "| |")


def test_the_model_card_names_the_oldest_runtime(contract: dict[str, Any]) -> None:
    assert "ONNX opset 13, IR version 7: ONNX Runtime 1.10 and later." in render_card(contract)


def test_class_names_break_no_table_and_no_markup(contract: dict[str, Any]) -> None:
    text = render_card(contract, classes=["a|b", "<script>", "*c* $d$"])

    rows = [line for line in text.partition("## Results per class")[2].splitlines() if line.startswith("| ")][1:]
    assert [row.replace(r"\|", "").count("|") for row in rows] == [6, 6, 6]
    assert [row.split(" | ")[0] for row in rows] == [r"| a\|b", r"| \<script\>", r"| \*c\* \$d\$"]
