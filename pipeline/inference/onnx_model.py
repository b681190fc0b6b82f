"""The one place that opens an ONNX file and predicts. The only importer of onnxruntime.

The contract of the files: `image`, `(batch, height, width)` uint8 of 0 to 255 -> `probabilities`, `(batch, classes)` float32.
Nothing is outside the file: its hash stands for all that it computes.
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

from pipeline.core.errors import UnusableInputError, first_line
from pipeline.core.files import require
from pipeline.data.datasets import Pixels

INPUT, OUTPUT = "image", "probabilities"

Probabilities = npt.NDArray[np.float32]

_BATCH = 2000  # images a call: as floats they stay near the processor, which makes it a tenth faster than five times as many
_FATAL = 4  # onnxruntime's severity: its errors arrive as exceptions, in one line
_MOST_PIXELS = 50_000_000  # of an image
_MOST_CLASSES = 256  # labels are uint8

# Name, type, and which of the dimensions have a size that the file fixes.
_INPUTS = [(INPUT, "tensor(uint8)", [False, True, True])]
_OUTPUTS = [(OUTPUT, "tensor(float)", [False, True])]


class OnnxModel:
    """An ONNX file that keeps the contract, ready to predict on the CPU.

    Raises:
        MissingInputError: there is no such file.
        UnusableInputError: it is not an ONNX file, keeps weights in another, or keeps another contract.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        """Open `path`; `threads` of 0 takes as many as there are cores."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _FATAL
        content = require(path).read_bytes()
        _parsed(content, path)
        self._path = path
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)  # what the file says of itself
            inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        except Exception as error:  # onnxruntime raises a class of its own for each status, none of them public
            raise UnusableInputError(path, "an ONNX model", first_line(error)) from error
        self.image_shape, self.classes = _contract(inputs, outputs, path)
        self.names = self._names()

    def _names(self) -> list[str]:
        """What the classes are called, by the file's metadata; their numbers where it does not say."""
        try:
            names = json.loads(self.metadata.get("classes", "null"))
        except (ValueError, RecursionError):
            names = False
        if names is None:
            return [str(number) for number in range(self.classes)]
        if not isinstance(names, list) or len(names) != self.classes or not all(isinstance(name, str) for name in names):
            raise UnusableInputError(self._path, f"metadata with {self.classes} names as classes", "others")
        return names

    def predict(self, images: Pixels) -> Probabilities:
        """Images `(n, height, width)` uint8 -> probabilities `(n, classes)` float32, rows of which sum to 1."""
        starts = range(0, len(images), _BATCH)
        parts = [self._run(images[start : start + _BATCH]) for start in starts]
        return np.concatenate(parts) if parts else np.empty((0, self.classes), np.float32)

    def _run(self, images: Pixels) -> Probabilities:
        try:
            (probabilities,) = self._session.run([OUTPUT], {INPUT: np.ascontiguousarray(images)})
        except Exception as error:  # as above
            raise UnusableInputError(self._path, "a model that computes", first_line(error)) from error
        if probabilities.shape != (expected := (len(images), self.classes)):
            raise UnusableInputError(self._path, f"probabilities of shape {expected}", str(probabilities.shape))
        return np.asarray(probabilities, dtype=np.float32)

    def latency(self, image: Pixels, calls: int) -> npt.NDArray[np.float64]:
        """Microseconds that each of `calls` calls on a single image `(height, width)` takes, after as many to warm up."""
        batch = image[None].copy()
        taken = np.empty(2 * calls)
        for call in range(2 * calls):
            start = time.perf_counter_ns()
            self._session.run([OUTPUT], {INPUT: batch})
            taken[call] = (time.perf_counter_ns() - start) / 1000
        return taken[calls:]


def _parsed(content: bytes, path: Path) -> onnx.ModelProto:
    try:
        proto = onnx.load_model_from_string(content)
        outside = next(_outside(proto), None)
    except Exception as error:  # protobuf's, and of text that is none
        raise UnusableInputError(path, "an ONNX model", first_line(error)) from error
    if outside is not None:
        raise UnusableInputError(path, "an ONNX model in one file", f"weights outside it, in {outside!r}")
    return proto


def _outside(message: Any) -> Iterator[str]:
    """Where the tensors lie that are not in the file, wherever in it they are spoken of."""
    if isinstance(message, onnx.TensorProto) and (message.external_data or message.data_location):
        yield next((entry.value for entry in message.external_data if entry.key == "location"), "")
    for field, value in message.ListFields():
        if field.message_type:
            for part in value if field.is_repeated else [value]:
                yield from _outside(part)


def _contract(inputs: Sequence[Any], outputs: Sequence[Any], path: Path) -> tuple[tuple[int, int], int]:
    """The image's size and the number of classes."""
    if _kinds(inputs) != _INPUTS or _kinds(outputs) != _OUTPUTS:
        expected = f"uint8 {INPUT} (batch, height, width) in, float {OUTPUT} (batch, classes) out"
        raise UnusableInputError(path, expected, f"{_described(inputs)} in, {_described(outputs)} out")
    (_, height, width), (_, classes) = inputs[0].shape, outputs[0].shape
    if height * width > _MOST_PIXELS or classes > _MOST_CLASSES:
        expected = f"at most {_MOST_PIXELS:,} pixels an image and {_MOST_CLASSES} classes"
        raise UnusableInputError(path, expected, f"{width}x{height} and {classes}")
    return (height, width), classes


def _kinds(values: Sequence[Any]) -> list[tuple[str, str, list[bool]]]:
    return [(value.name, value.type, [isinstance(size, int) and size > 0 for size in value.shape]) for value in values]


def _described(values: Sequence[Any]) -> str:
    """`uint8 image (batch, 28, 28)`: what a person needs to know of inputs or outputs."""
    parts = [(value.type.removeprefix("tensor(").removesuffix(")"), value.name, value.shape) for value in values]
    return " and ".join(f"{kind} {name} ({', '.join(str(size or '?') for size in shape)})" for kind, name, shape in parts)


def versions(path: Path) -> tuple[int, int]:
    """The opset and the IR version of an ONNX file: what a runtime must know to read it."""
    proto = _parsed(require(path).read_bytes(), path)
    return next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), proto.ir_version


class Dense(NamedTuple):
    """A dense layer as it stands in an ONNX file."""

    kernel: npt.NDArray[np.float32]  # (inputs, units)
    bias: npt.NDArray[np.float32]  # (units,)
    activation: str  # the names of ONNX's operators, such as Relu, or Sigmoid Mul


def dense_layers(path: Path) -> list[Dense]:
    """The dense layers of a float32 file, from image to probabilities."""
    graph = _parsed(require(path).read_bytes(), path).graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    layers: list[Dense] = []
    product = ""  # what the bias is added to: a layer whose bias is zero has no such Add, but its activation may have others
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
    """Open the model at `path`, or raise UnusableInputError unless it is for images of this size and as many classes."""
    model = OnnxModel(path)
    expected, found = (
        f"a model for images of {height}x{width} and {count} classes"
        for (height, width), count in ((images.shape[1:], len(classes)), (model.image_shape, model.classes))
    )
    if found != expected:
        raise UnusableInputError(path, expected, found)
    return model
