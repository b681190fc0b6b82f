"""The page about what a change does to the model, as Markdown renders it."""

import numpy as np
import pytest

from pipeline.core import params as parameters
from pipeline.promotion import model_changes
from pipeline.promotion.model_changes import Changes
from tests.imports import ROOT

PROMOTE = parameters.load(ROOT / "params.yaml").promote
N = 1000


def page(params: object = None, metrics: object = None) -> str:
    return model_changes.page(Changes("main", [], params or {}, metrics or {}, "A verdict.", "Here."))  # type: ignore[arg-type]


def test_metrics_and_parameters_are_tables() -> None:
    params = {"params.yaml": {"train.epochs": {"old": 26, "new": 30}, "fetch.size": {"old": None, "new": [28, 28]}}}
    metrics = {
        "data/model/parity.json": {"max_difference": {"old": 1e-07, "new": 2e-07, "diff": 1e-07}},
        "data/evaluation/metrics.json": {
            "int8.accuracy": {"old": 0.9907, "new": 0.9917, "diff": 0.001},
            "bytes": {"old": 815424, "new": 815432, "diff": 8},
            "accuracy": {"old": 0.9908, "new": 0.9918, "diff": 0.001},
            "sha256": {"old": "4d", "new": "5e"},
        },
    }

    lines = page(params, metrics).splitlines()

    assert [line for line in lines if line.startswith("| `")] == [
        "| `accuracy` | 0.9908 | 0.9918 | +0.001 |",
        "| `bytes` | 815,424 | 815,432 | +8 |",
        "| `int8.accuracy` | 0.9907 | 0.9917 | +0.001 |",
        "| `parity: max_difference` | 1e-07 | 2e-07 | +1e-07 |",
        "| `fetch.size` | none | `[28, 28]` |",
        "| `train.epochs` | 26 | 30 |",
    ]


def test_without_a_difference_it_says_so() -> None:
    text = page()

    assert "No metric differs." in text
    assert "No parameter differs." in text
    assert "|" not in text


def test_a_value_can_neither_end_its_cell_nor_its_code() -> None:
    text = page({"params.yaml": {"fetch.dataset": {"old": "mnist", "new": "a|b`<img src=x>\n# c" + "x" * 1000}}})

    (row,) = [line for line in text.splitlines() if line.startswith("| `fetch")]
    assert row.startswith("| `fetch.dataset` | `mnist` | `a\\|b'<img src=x> # cxxx")
    assert row.endswith("…` |")
    assert len(row) < 400


@pytest.mark.parametrize(
    ("won", "lost", "said"),
    [
        (
            20,
            18,
            "**not significantly different** (alpha 0.05). Its accuracy is 90.20% on 1,000 test images, against 90.00%",
        ),
        (40, 10, "**significantly better** (alpha 0.05)"),
        (10, 40, "**⚠️ significantly worse** (alpha 0.05)"),
    ],
)
def test_the_verdict_is_the_paired_test(won: int, lost: int, said: str) -> None:
    base = np.arange(N) < 900
    challenger = base.copy()
    challenger[:lost] = False
    challenger[900 : 900 + won] = True

    sentence = model_changes.verdict(challenger, base, "main", PROMOTE)

    assert said in sentence
    assert f"exactly one of the two is right on {won + lost} images: the new one on {won} (p = " in sentence
