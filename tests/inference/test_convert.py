from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import onnxruntime
import pytest

from pipeline.core.params import ModelParams
from pipeline.inference import convert, onnx_model, quantization
from pipeline.inference.onnx_model import OnnxModel
from pipeline.training import network
from tests.conftest import Edit
from tests.inference.test_onnx_model import LAYERS, SIZE, Layer, forward, random_layer, write_network


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
def test_both_files_predict_as_keras_with_every_activation(activation: Any, tmp_path: Path) -> None:
    model = network.build(ModelParams(hidden_units=(16, 11), activation=activation), (12, 9), classes=4, seed=0)
    images = np.random.default_rng(0).integers(0, 256, (50, 12, 9), dtype=np.uint8)
    expected = model.predict(images, verbose=0)
    float32, int8 = tmp_path / "model.onnx", tmp_path / "model.int8.onnx"

    onnx.save(convert.to_onnx(model, 13, {}), float32)
    onnx.save(convert.quantize(onnx.load(float32), images), int8)

    np.testing.assert_allclose(OnnxModel(float32).predict(images), expected, atol=1e-5)
    np.testing.assert_allclose(OnnxModel(int8).predict(images), expected, atol=0.02)
    alone = [OnnxModel(int8, threads=1).predict(image[None])[0] for image in images]
    np.testing.assert_array_equal(OnnxModel(int8).predict(images), alone)
    for path in (float32, int8):
        proto = onnx.load(path)
        onnx.checker.check_model(proto, full_check=True)  # every operator exists in this opset, and IR version 7 belongs to it
        assert (proto.ir_version, [(entry.domain, entry.version) for entry in proto.opset_import]) == (7, [("", 13)])


def test_equal_networks_give_equal_bytes(model: Any) -> None:
    first, again = (convert.to_onnx(model, 18, {}).SerializeToString(deterministic=True) for _ in range(2))

    assert first == again


RANDOM = np.random.default_rng(5).integers(0, 256, (400, *SIZE)).astype(np.uint8)
NETWORKS = {
    "one hidden layer": LAYERS,
    "two hidden layers": [random_layer(20, 13, "Relu", 1), random_layer(13, 11, "Relu", 2), random_layer(11, 3, "Softmax", 3)],
    "negative activations": [random_layer(20, 13, "Tanh", 1), random_layer(13, 3, "Softmax", 2)],
    "no bias": [(random_layer(20, 13, "", 1)[0], None, "Relu"), random_layer(13, 3, "Softmax", 2)],
    "a unit without weights": [
        (np.eye(20, 13, 3, np.float32), np.ones(13, np.float32), "Relu"),
        random_layer(13, 3, "Softmax", 2),
    ],
}


def quantized(layers: list[Layer], folder: Path, images: Any = RANDOM, size: tuple[int, int] = SIZE) -> tuple[Path, Path]:
    """Write the network of these layers in float32 and int8."""
    float32, int8 = write_network(folder / "model.onnx", layers, size), folder / "model.int8.onnx"
    onnx.save(convert.quantize(onnx.load(float32), images), int8)
    return float32, int8


def initializers(path: Path) -> dict[str, Any]:
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def test_a_quantized_model_is_smaller_and_predicts_nearly_the_same(tmp_path: Path) -> None:
    layers = [random_layer(784, 64, "Relu", 1), random_layer(64, 10, "Softmax", 2)]
    images = np.random.default_rng(5).integers(0, 256, (500, 28, 28)).astype(np.uint8)

    float32, int8 = quantized(layers, tmp_path, images[:250], (28, 28))

    assert int8.stat().st_size < float32.stat().st_size / 3
    predicted, expected = OnnxModel(int8).predict(images).argmax(axis=1), forward(layers, images).argmax(axis=1)
    assert (predicted == expected).mean() > 0.95


@pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
def test_an_int8_answer_depends_on_the_image_alone(layers: list[Layer], tmp_path: Path) -> None:
    _, int8 = quantized(layers, tmp_path)
    images = np.concatenate([RANDOM[:40], np.zeros((1, *SIZE), np.uint8), np.full((1, *SIZE), 255, np.uint8)])
    alone = np.concatenate([OnnxModel(int8, threads=1).predict(images[row : row + 1]) for row in range(len(images))])

    for threads in (1, 2, 3):
        model = OnnxModel(int8, threads)
        for count in (2, 3, 5, 16, 17, 42):
            np.testing.assert_array_equal(model.predict(images[:count]), alone[:count])
        np.testing.assert_array_equal(model.predict(images[::-1])[::-1], alone)


@pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
def test_int8_products_are_exact(layers: list[Layer], tmp_path: Path) -> None:
    """All that the file computes, in NumPy's integers and float32: the bits that ONNX Runtime gives before the softmax."""
    _, int8 = quantized(layers, tmp_path)
    proto = onnx.load(int8)
    values: dict[str, Any] = {"image": RANDOM, **initializers(int8)}
    hidden = onnx_model.hidden_layers(proto, RANDOM)[0].values
    for node in proto.graph.node[:-1]:
        inputs = [values[name] for name in node.input]
        values[node.output[0]] = hidden if node.op_type == "Tanh" else compute(node.op_type, inputs)  # NumPy's tanh differs
    logits = proto.graph.node[-1].input[0]
    proto.graph.output[0].name = logits

    (found,) = onnxruntime.InferenceSession(proto.SerializeToString()).run([logits], {"image": RANDOM})

    np.testing.assert_array_equal(found, values[logits])


def compute(operator: str, values: list[Any]) -> Any:
    """One operator as the ONNX standard defines it."""
    if operator == "Reshape":
        return values[0].reshape(len(values[0]), -1)
    if operator == "QuantizeLinear":
        steps, zero = np.rint(values[0] / values[1]), values[2]
        return np.clip(steps + zero, 0, 255).astype(np.uint8)
    if operator == "MatMulInteger":
        wide = [value.astype(np.int64) for value in (*values, np.int8(0), np.int8(0))]
        return (wide[0] - wide[2]) @ (wide[1] - wide[3])
    if operator == "Cast":
        return values[0].astype(np.float32)
    return {"Mul": np.multiply, "Add": np.add, "Relu": lambda value: np.maximum(value, 0)}[operator](*values)


def test_no_processor_can_overflow(tmp_path: Path) -> None:
    """Without VNNI, two products of uint8 and int8 are added in 16 bits."""
    _, int8 = quantized(NETWORKS["two hidden layers"], tmp_path)

    kernels = [value for value in initializers(int8).values() if value.ndim == 2]

    assert [kernel.dtype for kernel in kernels] == [np.int8, np.uint8, np.uint8]
    assert 2 * 255 * np.abs(kernels[0].astype(int)).max() < 2**15


def test_sums_of_many_inputs_stay_within_the_bits_of_a_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "_SUM", 2**15)  # 32 bits hold the products of 66,000 inputs

    steps, _ = quantization.steps(random_layer(20, 3, "Relu", 1)[0], RANDOM.reshape(-1, 20), most=127)

    assert 255 * np.abs(steps.astype(int)).sum(axis=0).max() < 2**15


def test_a_scale_covers_all_values_but_outliers_and_zero_is_exact() -> None:
    values = np.linspace(-0.5, 1.5, 100_001)
    values[0] = 1000

    scale, zero = quantization.range_of(values)

    assert scale * 255 == pytest.approx(2, rel=1e-3)
    assert zero * scale == pytest.approx(0.5, abs=float(scale))
    assert quantization.range_of(np.abs(values[1:]))[1] == 0
    assert quantization.range_of(np.zeros(5)) == (pytest.approx(1 / 255), 0)


def test_quantizing_keeps_the_metadata_and_names_the_method(tmp_path: Path) -> None:
    proto = onnx.load(write_network(tmp_path / "model.onnx", LAYERS, SIZE))
    before = proto.SerializeToString(deterministic=True)

    int8 = convert.quantize(proto, RANDOM)

    metadata = {entry.key: entry.value for entry in int8.metadata_props}
    assert metadata == {"dataset": "random", "quantisation": "static int8"}
    assert proto.SerializeToString(deterministic=True) == before


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
