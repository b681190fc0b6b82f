"""Open an ONNX file and predict. No other module does.

Input: `image`, `(batch, height, width)` uint8, 0 to 255. Output: `probabilities`, `(batch, classes)` float32.
A file must contain all its weights, so that its hash identifies the model.
"""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from pipeline.core.errors import PipelineError, UnusableInputError, first_line
from pipeline.core.files import require
from pipeline.data.datasets import Pixels

INPUT, OUTPUT = "image", "probabilities"

Probabilities = npt.NDArray[np.float32]

_BATCH = 2000  # images per call: their floats stay in the cache, a tenth faster than 10,000
_FATAL = 4  # log severity: errors are raised as exceptions, so onnxruntime need not print them
_MOST_PIXELS = 50_000_000  # per image
_MOST_CLASSES = 256  # labels are uint8

# Name, type, and for each dimension whether the file fixes its size.
_INPUTS = [(INPUT, "tensor(uint8)", [False, True, True])]
_OUTPUTS = [(OUTPUT, "tensor(float)", [False, True])]


class EmptyModelError(UnusableInputError):
    """The file is the empty one that export writes where it leaves int8 out."""

    def __init__(self, path: Path) -> None:
        found = "an empty file, as export writes it where it leaves int8 out (parity.json says why)"
        PipelineError.__init__(self, f"{path}: expected an ONNX model, found {found}.\nNothing was predicted. Use model.onnx.")


class OnnxModel:
    """An ONNX file with the expected input and output, ready to predict on the CPU.

    Raises:
        MissingInputError: there is no such file.
        UnusableInputError: it is not an ONNX file, stores weights outside it, or has another input or output.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        """Open `path`. With `threads=0` there is one thread per core."""
        content = require(path).read_bytes()
        _parsed(content, path)
        self._path = path
        try:
            self._session = _session(content, threads)
            self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)
            self.image_shape, self.classes = _sizes(self._session.get_inputs(), self._session.get_outputs(), path)
        except UnusableInputError:
            raise
        except Exception as error:  # onnxruntime raises private classes, and the names of dimensions can fail to decode
            raise UnusableInputError(path, "an ONNX model", first_line(error)) from error
        self.names = self._names()

    def _names(self) -> list[str]:
        """The names of the classes, from the metadata; their numbers if it has none."""
        try:
            names = json.loads(self.metadata.get("classes", "null"))
        except (ValueError, RecursionError):
            names = False
        if names is None:
            return [str(number) for number in range(self.classes)]
        if not isinstance(names, list) or len(names) != self.classes or not all(isinstance(name, str) for name in names):
            raise UnusableInputError(self._path, f"metadata with the names of {self.classes} classes", "something else")
        return names

    def predict(self, images: Pixels) -> Probabilities:
        """Images `(n, height, width)` uint8 -> probabilities `(n, classes)` float32. Rows sum to 1."""
        starts = range(0, len(images), _BATCH)
        batches = [self._run(images[start : start + _BATCH]) for start in starts]
        return np.concatenate(batches) if batches else np.empty((0, self.classes), np.float32)

    def _run(self, images: Pixels) -> Probabilities:
        try:
            (probabilities,) = self._session.run([OUTPUT], {INPUT: np.ascontiguousarray(images)})
        except Exception as error:  # as above
            raise UnusableInputError(self._path, "a model that can predict", first_line(error)) from error
        if probabilities.shape != (expected := (len(images), self.classes)):
            raise UnusableInputError(self._path, f"probabilities of shape {expected}", str(probabilities.shape))
        return np.asarray(probabilities, dtype=np.float32)

    def latency(self, image: Pixels, calls: int) -> npt.NDArray[np.float64]:
        """Microseconds of each of `calls` calls on one image `(height, width)`, after as many warm-up calls."""
        batch = image[None].copy()
        times = np.empty(2 * calls)
        for call in range(2 * calls):
            start = time.perf_counter_ns()
            self._session.run([OUTPUT], {INPUT: batch})
            times[call] = (time.perf_counter_ns() - start) / 1000
        return times[calls:]


def _session(content: bytes, threads: int = 0) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _FATAL
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _parsed(content: bytes, path: Path) -> onnx.ModelProto:
    if not content:
        raise EmptyModelError(path)
    try:
        proto = onnx.load_model_from_string(content)
        location = next(_external_data(proto), None)
    except Exception as error:  # protobuf raises several classes, and text can fail to decode
        raise UnusableInputError(path, "an ONNX model", first_line(error)) from error
    if location is not None:
        raise UnusableInputError(path, "an ONNX model in one file", f"weights outside it, in {location!r}")
    return proto


def _external_data(message: Any) -> Iterator[str]:
    """The locations of tensors that are stored outside the file."""
    if isinstance(message, onnx.TensorProto) and (message.external_data or message.data_location):
        yield next((entry.value for entry in message.external_data if entry.key == "location"), "")
    for field, value in message.ListFields():
        if field.message_type:
            for part in value if field.is_repeated else [value]:
                yield from _external_data(part)


def _sizes(inputs: Sequence[Any], outputs: Sequence[Any], path: Path) -> tuple[tuple[int, int], int]:
    """The size of the images and the number of classes. Raises UnusableInputError if input or output are not as expected."""
    if _signature(inputs) != _INPUTS or _signature(outputs) != _OUTPUTS:
        expected = f"uint8 {INPUT} (batch, height, width) in, float {OUTPUT} (batch, classes) out"
        raise UnusableInputError(path, expected, f"{_described(inputs)} in, {_described(outputs)} out")
    (_, height, width), (_, classes) = inputs[0].shape, outputs[0].shape
    if height * width > _MOST_PIXELS or classes > _MOST_CLASSES:
        expected = f"at most {_MOST_PIXELS:,} pixels an image and {_MOST_CLASSES} classes"
        raise UnusableInputError(path, expected, f"{width}x{height} and {classes}")
    return (height, width), classes


def _signature(values: Sequence[Any]) -> list[tuple[str, str, list[bool]]]:
    return [(value.name, value.type, [isinstance(size, int) and size > 0 for size in value.shape]) for value in values]


def _described(values: Sequence[Any]) -> str:
    """Inputs or outputs as text, such as `uint8 image (batch, 28, 28)`."""
    described = [(value.type.removeprefix("tensor(").removesuffix(")"), value.name, value.shape) for value in values]
    return " and ".join(f"{kind} {name} ({', '.join(str(size or '?') for size in shape)})" for kind, name, shape in described)


def load(path: Path) -> onnx.ModelProto:
    """Read an ONNX file, to look at what is in it."""
    return _parsed(require(path).read_bytes(), path)


def versions(path: Path) -> tuple[int, int]:
    """The opset and the IR version of an ONNX file. A runtime must support both."""
    proto = load(path)
    return next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), proto.ir_version


class Hidden(NamedTuple):
    """The activations of a hidden layer for some images."""

    values: npt.NDArray[np.float32]  # (n, units)
    step: float  # that an int8 file rounds them to; 0 for float32


def hidden_layers(proto: onnx.ModelProto, images: Pixels) -> list[Hidden]:
    """The activations for `images` in each hidden layer of a float32 or an int8 model."""
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    steps = dict.fromkeys([node.input[0] for node in proto.graph.node if node.op_type == "MatMul"][1:], 0.0)
    for node in proto.graph.node:
        if node.op_type == "QuantizeLinear":
            steps[node.input[0]] = float(onnx.numpy_helper.to_array(constants[node.input[1]]))
    if not steps:
        return []
    opened = onnx.ModelProto()
    opened.CopyFrom(proto)
    opened.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in steps)
    values = _session(opened.SerializeToString()).run(list(steps), {INPUT: np.ascontiguousarray(images)})
    return [Hidden(*pair) for pair in zip(values, steps.values(), strict=True)]


class Dense(NamedTuple):
    """A dense layer of an ONNX file."""

    kernel: npt.NDArray[np.float32]  # (inputs, units)
    bias: npt.NDArray[np.float32]  # (units,)
    activation: str  # names of ONNX operators, such as Relu, or Sigmoid Mul


def dense_layers(path: Path) -> list[Dense]:
    """The dense layers of a float32 file, from image to probabilities."""
    graph = load(path).graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    layers: list[Dense] = []
    product = ""  # the output of the last MatMul; an Add to it is the bias, other Adds belong to the activation
    for node in graph.node:
        weights = [constants[name] for name in node.input if name in constants]
        if node.op_type == "MatMul" and weights:
            layers.append(Dense(weights[0], np.zeros(weights[0].shape[1], np.float32), ""))
            product = node.output[0]
        elif node.op_type == "Add" and weights and product in node.input:
            layers[-1] = layers[-1]._replace(bias=weights[0])
        elif layers:
            layers[-1] = layers[-1]._replace(activation=f"{layers[-1].activation} {node.op_type}".strip())
    return layers


def open_for(path: Path, images: Pixels, classes: Sequence[str]) -> OnnxModel:
    """Open the model at `path`. Raises UnusableInputError unless it takes images of this size and has as many classes."""
    model = OnnxModel(path)
    expected, found = (
        f"a model for images of {height}x{width} and {count} classes"
        for (height, width), count in ((images.shape[1:], len(classes)), (model.image_shape, model.classes))
    )
    if found != expected:
        raise UnusableInputError(path, expected, found)
    return model
