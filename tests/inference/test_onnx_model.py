"""Small ONNX models built without TensorFlow; the expected values come from NumPy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pipeline.core.errors import MissingInputError, UnusableInputError
from pipeline.inference import onnx_model
from pipeline.inference.onnx_model import OnnxModel

Floats = npt.NDArray[np.float32]
Layer = tuple[Floats, Floats | None, str]  # kernel, bias (None: no Add, because the converter omits zeros), activation

ACTIVATIONS = {
    "Relu": lambda values: np.maximum(values, 0),
    "Tanh": np.tanh,
    "Sigmoid Mul": lambda values: values / (1 + np.exp(-values)),
    "Softmax": lambda values: np.exp(values) / np.exp(values).sum(axis=1, keepdims=True),
}


def write_network(path: Path, layers: Sequence[Layer], size: tuple[int, int], **changes: Any) -> Path:
    """Write a dense network on images of `size`, in the operators that tf2onnx uses; `changes` violate the contract."""
    image, output = changes.get("input", "image"), changes.get("output", "probabilities")
    constants: dict[str, Any] = {"scale": 1 / np.float32(255), "zero": np.float32(0), "one": np.float32(1)}
    constants["flat"] = np.array([-1, layers[0][0].shape[0]])
    nodes: list[Any] = []

    def add(operator: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [f"{operator}_{len(nodes)}"], **attributes))
        return str(nodes[-1].output[0])

    # tf2onnx keeps an Add of zero for Rescaling.
    value = add("Reshape", add("Add", add("Mul", add("Cast", image, to=TensorProto.FLOAT), "scale"), "zero"), "flat")
    for number, (kernel, bias, activation) in enumerate(layers):
        constants[f"kernel_{number}"] = kernel
        value = add("MatMul", value, f"kernel_{number}")
        if bias is not None:
            constants[f"bias_{number}"] = bias
            value = add("Add", value, f"bias_{number}")
        second = {"Mul": value, "Add": "one"}
        for operator in activation.split():
            value = add(operator, value, *([second[operator]] if operator in second else []))
    nodes[-1].output[0] = output
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(image, changes.get("type", TensorProto.UINT8), changes.get("shape", ["batch", *size]))],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", layers[-1][0].shape[1]])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, {"dataset": "random"})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def forward(layers: Sequence[Layer], images: npt.NDArray[np.uint8], dtype: Any = np.float64) -> npt.NDArray[Any]:
    values = images.reshape(len(images), -1).astype(dtype) / dtype(255)
    for kernel, bias, activation in layers:
        offset = dtype(0) if bias is None else bias.astype(dtype)
        values = ACTIVATIONS[activation](values @ kernel.astype(dtype) + offset)
    return values


def random_layer(inputs: int, units: int, activation: str, seed: int = 0) -> Layer:
    random = np.random.default_rng(seed)
    return random.normal(size=(inputs, units)).astype(np.float32), random.normal(size=units).astype(np.float32), activation


SIZE = (4, 5)
LAYERS = [random_layer(20, 8, "Relu", 1), random_layer(8, 3, "Softmax", 2)]
IMAGES = np.random.default_rng(3).integers(0, 256, (50, *SIZE)).astype(np.uint8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_network(tmp_path / "model.onnx", LAYERS, SIZE)


def test_predict_equals_the_computation_in_numpy(path: Path) -> None:
    probabilities = OnnxModel(path).predict(IMAGES)

    np.testing.assert_allclose(probabilities, forward(LAYERS, IMAGES), atol=1e-6)
    assert probabilities.dtype == np.float32


def test_predict_splits_many_images_into_batches_and_keeps_their_order(path: Path) -> None:
    images = np.random.default_rng(4).integers(0, 256, (2 * onnx_model._BATCH + 7, *SIZE)).astype(np.uint8)

    probabilities = OnnxModel(path).predict(images)

    np.testing.assert_allclose(probabilities, forward(LAYERS, images), atol=1e-6)


def test_predict_accepts_images_that_are_not_contiguous_in_memory(path: Path) -> None:
    model = OnnxModel(path)

    flipped = model.predict(IMAGES[:, ::-1])

    np.testing.assert_array_equal(flipped, model.predict(IMAGES[:, ::-1].copy()))
    assert np.abs(flipped - model.predict(IMAGES)).max() > 0.1


def test_no_images_give_no_probabilities(path: Path) -> None:
    probabilities = OnnxModel(path).predict(IMAGES[:0])

    assert (probabilities.shape, probabilities.dtype) == ((0, 3), np.float32)


def test_a_model_knows_its_image_shape_classes_and_metadata(path: Path) -> None:
    model = OnnxModel(path)

    assert (model.image_shape, model.classes, model.metadata) == (SIZE, 3, {"dataset": "random"})


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"input": "pixels"}, "uint8 pixels (batch, 4, 5) in, float probabilities (batch, 3) out"),
        ({"type": TensorProto.FLOAT}, "float image (batch, 4, 5) in, float probabilities (batch, 3) out"),
        ({"shape": ["batch", 20]}, "uint8 image (batch, 20) in, float probabilities (batch, 3) out"),
        ({"shape": [1, 4, 5]}, "uint8 image (1, 4, 5) in, float probabilities (1, 3) out"),
        ({"shape": ["batch", "height", None]}, "uint8 image (batch, height, ?) in, float probabilities (batch, 3) out"),
        ({"output": "scores"}, "uint8 image (batch, 4, 5) in, float scores (batch, 3) out"),
    ],
    ids=["input name", "input type", "rank", "fixed batch", "unknown size", "output name"],
)
def test_a_model_with_another_input_or_output_is_refused(changes: dict[str, Any], found: str, tmp_path: Path) -> None:
    path = write_network(tmp_path / "model.onnx", LAYERS, SIZE, **changes)

    with pytest.raises(UnusableInputError) as raised:
        OnnxModel(path)

    expected = "uint8 image (batch, height, width) in, float probabilities (batch, classes) out"
    assert str(raised.value).startswith(f"{path}: expected {expected}, found {found}")


def test_a_truncated_file_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(UnusableInputError, match="expected an ONNX model, found"):
        OnnxModel(path)


@pytest.mark.parametrize(
    ("content", "found"), [(b"not a model", ""), (b"", "an empty file, as export writes it where it leaves int8 out")]
)
def test_a_file_that_is_not_an_onnx_model_is_refused(content: bytes, found: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)

    with pytest.raises(UnusableInputError, match=f"expected an ONNX model, found {found}"):
        OnnxModel(path)


@pytest.mark.parametrize("location", ["weights", "../weights", "/etc/hostname", ""])
@pytest.mark.parametrize("kind", ["initializer", "attribute"])
def test_weights_outside_the_file_are_refused(location: str, kind: str, path: Path) -> None:
    proto = onnx.load(path)
    tensor = next(tensor for tensor in proto.graph.initializer if tensor.name == "kernel_0")
    content = tensor.raw_data
    path.with_name("weights").write_bytes(content)
    if kind == "attribute":
        proto.graph.node.append(helper.make_node("Constant", [], ["kernel_0"], value=tensor))
        proto.graph.node.insert(0, proto.graph.node.pop())
        proto.graph.initializer.remove(tensor)
        tensor = proto.graph.node[0].attribute[0].t
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path.write_bytes(proto.SerializeToString())

    for read in (OnnxModel, onnx_model.versions, onnx_model.dense_layers):
        with pytest.raises(UnusableInputError) as raised:
            read(path)
        assert f"expected an ONNX model in one file, found weights outside it, in {location!r}" in str(raised.value)


def test_a_model_that_opens_but_cannot_predict_is_refused(tmp_path: Path) -> None:
    path = write_network(tmp_path / "model.onnx", LAYERS, SIZE, shape=["batch", 4, 2])  # the kernel has 20 rows, not 8

    with pytest.raises(UnusableInputError, match=r"model\.onnx: expected a model that can predict, found .*Reshape"):
        OnnxModel(path).predict(np.zeros((3, 4, 2), np.uint8))


def test_probabilities_of_another_shape_are_refused(path: Path) -> None:
    proto = onnx.load(path)
    proto.graph.node.append(helper.make_node("Concat", ["raw", "raw"], ["probabilities"], axis=0))
    proto.graph.node[-2].output[0] = "raw"
    path.write_bytes(proto.SerializeToString())

    with pytest.raises(UnusableInputError, match=r"expected probabilities of shape \(50, 3\), found \(100, 3\)"):
        OnnxModel(path).predict(IMAGES)


@pytest.mark.parametrize(
    ("size", "classes", "found"), [((10_000, 10_000), 3, "10000x10000 and 3"), (SIZE, 300, "5x4 and 300")]
)
def test_a_model_that_would_exhaust_memory_is_refused(size: tuple[int, int], classes: int, found: str, tmp_path: Path) -> None:
    path = write_network(tmp_path / "model.onnx", [random_layer(20, classes, "Softmax")], size)

    with pytest.raises(
        UnusableInputError, match=f"expected at most 50,000,000 pixels an image and 256 classes, found {found}"
    ):
        OnnxModel(path)


@pytest.mark.parametrize(
    ("classes", "names"),
    [(None, ["0", "1", "2"]), ('["a", "b", "c"]', ["a", "b", "c"])],
    ids=["without names", "with names"],
)
def test_class_names_come_from_the_metadata(classes: str | None, names: list[str], path: Path) -> None:
    proto = onnx.load(path)
    helper.set_model_props(proto, {"classes": classes} if classes else {})
    onnx.save(proto, path)

    assert OnnxModel(path).names == names


@pytest.mark.parametrize("classes", ["[", '["a"]', "[1, 2, 3]", "{}", "[" * 100_000])
def test_invalid_class_names_are_refused(classes: str, path: Path) -> None:
    proto = onnx.load(path)
    helper.set_model_props(proto, {"classes": classes})
    onnx.save(proto, path)

    with pytest.raises(UnusableInputError, match="expected metadata with the names of 3 classes, found something else"):
        OnnxModel(path)


@settings(deadline=None, max_examples=100, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
@example(edits=[(0.9453125, 128)])  # a dimension whose name is not UTF-8
def test_a_damaged_model_predicts_or_is_refused(edits: list[tuple[float, int]], tmp_path: Path) -> None:
    path = write_network(tmp_path / "model.onnx", LAYERS, SIZE)
    content = bytearray(path.read_bytes())
    for position, byte in edits:
        content[int(position * len(content))] = byte
    path.write_bytes(content)

    try:
        model = OnnxModel(path, threads=1)
        probabilities = model.predict(np.zeros((2, *model.image_shape), np.uint8))
    except UnusableInputError:
        return
    assert probabilities.shape == (2, len(model.names))


def test_a_missing_file_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"absent\.onnx"):
        OnnxModel(tmp_path / "absent.onnx")


@pytest.mark.parametrize(
    "layers",
    [
        LAYERS,
        [random_layer(20, 7, "Tanh", 1), random_layer(7, 6, "Relu", 2), random_layer(6, 3, "Softmax", 3)],
        [random_layer(20, 1, "Relu", 1), random_layer(1, 2, "Softmax", 2)],
        [random_layer(20, 8, "Sigmoid Mul", 1), random_layer(8, 3, "Softmax", 2)],
    ],
    ids=["one hidden layer", "two hidden layers", "one hidden neuron", "an activation of two operators"],
)
def test_dense_layers_are_read_from_the_file(layers: list[Layer], tmp_path: Path) -> None:
    dense_layers = onnx_model.dense_layers(write_network(tmp_path / "model.onnx", layers, SIZE))

    assert len(dense_layers) == len(layers)
    for layer, (kernel, bias, activation) in zip(dense_layers, layers, strict=True):
        np.testing.assert_array_equal(layer.kernel, kernel)
        np.testing.assert_array_equal(layer.bias, bias)
        assert layer.activation == activation


@pytest.mark.parametrize("written", [True, False], ids=["as an Add of zeros", "as no Add"])
def test_a_bias_of_zeros_is_read_as_zeros(written: bool, tmp_path: Path) -> None:
    kernel, _, activation = random_layer(20, 8, "Relu", 1)
    zeros = np.zeros(8, np.float32)
    layers = [(kernel, zeros if written else None, activation), random_layer(8, 3, "Softmax", 2)]

    hidden, last = onnx_model.dense_layers(write_network(tmp_path / "model.onnx", layers, SIZE))

    np.testing.assert_array_equal(hidden.bias, zeros)
    np.testing.assert_array_equal(last.bias, layers[1][1])
    assert (hidden.activation, last.activation) == ("Relu", "Softmax")


def test_a_constant_in_an_activation_is_not_a_bias(tmp_path: Path) -> None:
    kernel, _, _ = random_layer(20, 3, "", 1)
    path = write_network(tmp_path / "model.onnx", [(kernel, None, "Erf Add Softmax")], SIZE)

    (layer,) = onnx_model.dense_layers(path)

    assert (layer.bias.tolist(), layer.activation) == ([0, 0, 0], "Erf Add Softmax")


def test_latency_is_measured_for_each_call(path: Path) -> None:
    times = OnnxModel(path, threads=1).latency(IMAGES[0], 25)

    assert times.shape == (25,)
    assert (times > 0).all()
