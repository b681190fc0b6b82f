import numpy as np
import pytest

from pipeline.core.params import ExportParams
from pipeline.inference import parity
from pipeline.inference.parity import ParityError

PARAMS = ExportParams(opset=18, tolerance=1e-5, int8_agreement=0.9)


def test_compare_counts_the_differences() -> None:
    keras = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]], np.float32)
    float32 = keras + np.array([[0, 0], [0, 0], [-0.25, 0.25], [0, 0]], np.float32)
    int8 = keras[::-1]

    assert parity.compare(keras, float32, int8) == {
        "images": 4,
        "max_difference": pytest.approx(0.25),
        "different_decisions": 1,
        "int8_agreement": 0.25,
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_difference": 2e-5}, r"model\.onnx: expected probabilities within 1e-05 .* of Keras, found 2e-05"),
        ({"max_difference": float("nan")}, r"model\.onnx: expected probabilities within 1e-05 .* of Keras, found nan"),
        ({"different_decisions": 1}, r"model\.onnx: expected the predictions of Keras, found 1 different ones"),
        ({"int8_agreement": 0.89}, r"model\.int8\.onnx: expected agreement .* of at least 0\.9 .*, found 0\.8900"),
    ],
)
def test_a_difference_beyond_its_bound_is_an_error(change: dict[str, float], message: str) -> None:
    differences = {"images": 10, "max_difference": 1e-6, "different_decisions": 0, "int8_agreement": 0.99}
    parity.check(differences, PARAMS)

    with pytest.raises(ParityError, match=message):
        parity.check(differences | change, PARAMS)
