from pathlib import Path

import numpy as np
import onnx
import pytest

from pipeline.evaluation import tolerance
from pipeline.inference import onnx_model
from pipeline.inference.onnx_model import OnnxModel
from tests.inference.test_convert import quantized
from tests.inference.test_onnx_model import forward, random_layer

SIZE = (14, 14)
LAYERS = [
    (np.float32(0.2) * kernel, bias, activation)
    for kernel, bias, activation in (
        random_layer(196, 40, "Tanh", 1),
        random_layer(40, 30, "Relu", 2),
        random_layer(30, 5, "Softmax", 3),
    )
]
IMAGES = np.random.default_rng(0).integers(0, 256, (20, *SIZE)).astype(np.uint8)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The network in float32 and int8."""
    return quantized(LAYERS, tmp_path_factory.mktemp("files"), IMAGES, SIZE)


def test_other_orders_of_adding_stay_within_the_tolerance_and_lower_precision_does_not(files: tuple[Path, Path]) -> None:
    float32, _ = files
    expected = OnnxModel(float32).predict(IMAGES)
    hidden = onnx_model.hidden_layers(onnx.load(float32), IMAGES)

    bound = tolerance.derive(onnx_model.dense_layers(float32), IMAGES, hidden, expected)

    differences = [np.abs(forward(LAYERS, IMAGES) - expected).max()]  # as good as exact
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(196)
        shuffled = [(LAYERS[0][0][order], *LAYERS[0][1:]), *LAYERS[1:]]
        differences.append(np.abs(forward(shuffled, IMAGES.reshape(20, -1)[:, order], np.float32) - expected).max())
    assert 0 < max(differences) < bound
    assert np.abs(forward(LAYERS, IMAGES, np.float16) - expected).max() > bound


def test_the_tolerance_of_int8_allows_a_step_where_rounding_is_close(files: tuple[Path, Path]) -> None:
    float32, int8 = files
    layers, hidden = onnx_model.dense_layers(float32), onnx_model.hidden_layers(onnx.load(int8), IMAGES)
    probabilities = OnnxModel(int8).predict(IMAGES)

    def bound(fraction: float) -> float:
        """The tolerance if all activations were so far above a step."""
        moved = [(np.floor(layer.values / layer.step) + fraction) * layer.step for layer in hidden]
        return tolerance.derive(
            layers, IMAGES, [old._replace(values=new) for old, new in zip(hidden, moved, strict=True)], probabilities
        )

    assert bound(0.25) < 1e-4
    assert bound(0.5) > 1e-3


@pytest.mark.parametrize(("value", "rounded"), [(1.01e-6, 2e-6), (9.2e-7, 1e-6), (3e-4, 3e-4), (0.5, 0.5)])
def test_a_tolerance_has_one_digit(value: float, rounded: float) -> None:
    assert tolerance._one_digit(value) == rounded
