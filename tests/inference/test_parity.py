import numpy as np
import pytest

from pipeline.core.params import ExportParams
from pipeline.inference import parity
from pipeline.inference.parity import ParityError

PARAMS = ExportParams(opset=13, tolerance=1e-5, int8="optional", int8_agreement=0.9)


def test_compare_counts_the_differences() -> None:
    keras = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]], np.float32)
    float32 = keras + np.array([[0, 0], [0, 0], [-0.25, 0.25], [0, 0]], np.float32)

    assert parity.compare(keras, float32) == {"images": 4, "max_difference": pytest.approx(0.25), "different_decisions": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_difference": 2e-5}, r"model\.onnx: expected probabilities within 1e-05 .* of Keras, found 2e-05"),
        ({"max_difference": float("nan")}, r"model\.onnx: expected probabilities within 1e-05 .* of Keras, found nan"),
        ({"different_decisions": 1}, r"model\.onnx: expected the predictions of Keras, found 1 different ones"),
    ],
)
def test_a_difference_beyond_its_bound_is_an_error(change: dict[str, float], message: str) -> None:
    differences = {"images": 10, "max_difference": 1e-6, "different_decisions": 0}
    parity.check(differences, PARAMS)

    with pytest.raises(ParityError, match=message):
        parity.check(differences | change, PARAMS)


FLOAT32 = np.tile(np.array([[0.9, 0.1], [0.2, 0.8]], np.float32), (10, 1))


def test_int8_that_agrees_is_exported() -> None:
    int8 = FLOAT32.copy()
    int8[:2] = [[0.4, 0.6], [0.3, 0.7]]  # one of 20 differs

    assert parity.judge_int8(FLOAT32, int8, PARAMS) == {"int8": "exported", "int8_agreement": 0.95}


def test_int8_that_disagrees_is_left_out_with_the_reason() -> None:
    found = parity.judge_int8(FLOAT32, np.roll(FLOAT32, 1, axis=0), PARAMS)

    reason = "expected agreement with model.onnx of at least 0.9 (export.int8_agreement), found 0.0000"
    assert found == {"int8": f"left out: {reason}", "int8_agreement": 0}


def test_int8_that_disagrees_is_an_error_where_it_is_required() -> None:
    required = PARAMS.model_copy(update={"int8": "required"})

    with pytest.raises(ParityError, match=r"model\.int8\.onnx: expected .* at least 0\.9 .* is required, found 0\.0000"):
        parity.judge_int8(FLOAT32, np.roll(FLOAT32, 1, axis=0), required)
