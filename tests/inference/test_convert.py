import logging
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest

from pipeline.core.params import ModelParams
from pipeline.inference import convert
from pipeline.inference.onnx_model import OnnxModel
from pipeline.training import network
from tests.conftest import Edit
from tests.inference.test_onnx_model import LAYERS, SIZE, forward, random_layer, write_network


@pytest.fixture(scope="module")
def model() -> Any:
    return network.build(ModelParams(hidden_units=(16, 8), activation="tanh"), (12, 9), classes=4, seed=0)


@pytest.mark.parametrize("opset", [13, 15, 18])
def test_inputs_and_outputs_are_the_same_at_each_opset(model: Any, opset: int) -> None:
    proto = convert.to_onnx(model, opset, {"dataset": "letters"})

    (image,), (probabilities,) = proto.graph.input, proto.graph.output
    assert (image.name, image.type.tensor_type.elem_type) == ("image", onnx.TensorProto.UINT8)
    assert (probabilities.name, probabilities.type.tensor_type.elem_type) == ("probabilities", onnx.TensorProto.FLOAT)
    assert [size.dim_param or size.dim_value for size in image.type.tensor_type.shape.dim] == ["batch", 12, 9]
    assert [size.dim_param or size.dim_value for size in probabilities.type.tensor_type.shape.dim] == ["batch", 4]
    assert {entry.domain: entry.version for entry in proto.opset_import}[""] == opset
    assert {entry.key: entry.value for entry in proto.metadata_props} == {"dataset": "letters"}


@pytest.mark.parametrize("activation", get_args(ModelParams.model_fields["activation"].annotation))
def test_every_activation_that_the_parameters_allow_exports_and_predicts_the_same(activation: Any, tmp_path: Path) -> None:
    model = network.build(ModelParams(hidden_units=(16,), activation=activation), (12, 9), classes=4, seed=0)
    images = np.random.default_rng(0).integers(0, 256, (50, 12, 9), dtype=np.uint8)

    onnx.save(convert.to_onnx(model, 18, {}), tmp_path / "model.onnx")

    probabilities = OnnxModel(tmp_path / "model.onnx").predict(images)
    np.testing.assert_allclose(probabilities, model.predict(images, verbose=0), atol=1e-5)


def test_equal_networks_give_equal_bytes(model: Any) -> None:
    first, again = (convert.to_onnx(model, 18, {}).SerializeToString(deterministic=True) for _ in range(2))

    assert first == again


def test_a_quantized_model_is_smaller_and_predicts_nearly_the_same(tmp_path: Path) -> None:
    layers = [random_layer(784, 64, "Relu", 1), random_layer(64, 10, "Softmax", 2)]
    images = np.random.default_rng(5).integers(0, 256, (500, 28, 28)).astype(np.uint8)
    float32, int8 = write_network(tmp_path / "model.onnx", layers, (28, 28)), tmp_path / "model.int8.onnx"

    onnx.save(convert.quantize(onnx.load(float32)), int8)

    assert int8.stat().st_size < float32.stat().st_size / 2
    predicted, expected = OnnxModel(int8).predict(images).argmax(axis=1), forward(layers, images).argmax(axis=1)
    assert (predicted == expected).mean() > 0.95


def test_quantizing_keeps_the_metadata_and_names_the_method(tmp_path: Path) -> None:
    proto = onnx.load(write_network(tmp_path / "model.onnx", LAYERS, SIZE))
    before = proto.SerializeToString(deterministic=True)

    quantized = convert.quantize(proto)

    metadata = {entry.key: entry.value for entry in quantized.metadata_props}
    assert metadata == {"dataset": "random", "quantisation": "dynamic int8"}
    assert proto.SerializeToString(deterministic=True) == before


def test_quantizing_does_not_change_the_logging_settings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logging.disable(logging.NOTSET)  # a stage that another test ran in this process switched it off
    convert.quantize(onnx.load(write_network(tmp_path / "model.onnx", LAYERS, SIZE)))
    logging.warning("still logged")

    assert caplog.messages == ["still logged"]


@pytest.mark.parametrize(
    ("last_epoch", "accuracy", "split"),
    [
        ({"accuracy": 0.5, "val_accuracy": 0.991_666_674_6}, "0.991666675", "validation"),
        ({"accuracy": 0.5}, "0.5", "train"),
    ],
)
def test_metadata_gives_the_accuracy_and_its_split(
    last_epoch: dict[str, float], accuracy: str, split: str, edit: Edit
) -> None:
    manifest = {"dataset": "letters", "fingerprint": "f" * 64, "classes": ["a", "ä"], "licence": "CC0"}

    metadata = convert.metadata(edit(), manifest, last_epoch)

    assert (metadata["accuracy"], metadata["accuracy_split"]) == (accuracy, split)
    assert (metadata["classes"], metadata["licence"]) == ('["a", "ä"]', "data: CC0")
