"""The one place that opens an ONNX file and predicts. The only importer of onnxruntime.

The contract of the files: `image`, `(batch, height, width)` uint8 of 0 to 255 -> `probabilities`, `(batch, classes)` float32.
"""

import logging
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from pipeline.core.datasets import Pixels
from pipeline.core.errors import UnusableInputError
from pipeline.core.files import require

INPUT, OUTPUT = "image", "probabilities"

Probabilities = npt.NDArray[np.float32]

_BATCH = 10_000  # images a call: throughput has levelled off, and memory does not grow with the data
_ERROR = 3  # onnxruntime's severity


class OnnxModel:
    """An ONNX file that keeps the contract, ready to predict on the CPU.

    Raises:
        MissingInputError: there is no such file.
        UnusableInputError: it is not an ONNX file, or keeps another contract.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        """Open `path`; `threads` of 0 takes as many as there are cores."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _ERROR
        try:
            self._session = onnxruntime.InferenceSession(require(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a class of its own for each status, none of them public
            raise UnusableInputError(path, "an ONNX model", str(error).strip().splitlines()[0]) from error
        self.image_shape, self.classes = self._contract(path)

    def _contract(self, path: Path) -> tuple[tuple[int, int], int]:
        inputs = [(value.name, value.type, len(value.shape)) for value in self._session.get_inputs()]
        outputs = [(value.name, value.type, len(value.shape)) for value in self._session.get_outputs()]
        if inputs != [(INPUT, "tensor(uint8)", 3)] or outputs != [(OUTPUT, "tensor(float)", 2)]:
            raise UnusableInputError(path, f"uint8 {INPUT} in, float32 {OUTPUT} out", f"{inputs} in, {outputs} out")
        _, height, width = self._session.get_inputs()[0].shape
        return (height, width), self._session.get_outputs()[0].shape[1]

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says of itself."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def predict(self, images: Pixels) -> Probabilities:
        """Images `(n, height, width)` uint8 -> probabilities `(n, classes)` float32, rows of which sum to 1."""
        starts = range(0, len(images), _BATCH)
        parts = [self._run(images[start : start + _BATCH]) for start in starts]
        return np.concatenate(parts) if parts else np.empty((0, self.classes), np.float32)

    def _run(self, images: Pixels) -> Probabilities:
        (probabilities,) = self._session.run([OUTPUT], {INPUT: np.ascontiguousarray(images)})
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


def quantise(source: Path, target: Path) -> None:
    """Write the ONNX file `source` with int8 weights, and activations that are quantised as they come, to `target`."""
    from onnxruntime.quantization import QuantType, quantize_dynamic  # half a second, which predicting does not need

    logging.disable(logging.WARNING)  # it recommends a preprocessing that changes nothing in a dense network
    quantize_dynamic(source, target, op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8)


class Dense(NamedTuple):
    """A dense layer as it stands in an ONNX file."""

    kernel: npt.NDArray[np.float32]  # (inputs, units)
    bias: npt.NDArray[np.float32]  # (units,)
    activation: str  # the name of ONNX's operator, such as Relu


def dense_layers(path: Path) -> list[Dense]:
    """The dense layers of a float32 file, from image to probabilities."""
    graph = onnx.load(require(path)).graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    layers: list[Dense] = []
    for node in graph.node:
        weights = [constants[name] for name in node.input if name in constants]
        if node.op_type == "MatMul" and weights:
            layers.append(Dense(weights[0], np.zeros(weights[0].shape[1], np.float32), "Identity"))
        elif layers and node.op_type == "Add" and weights and not layers[-1].bias.any():
            layers[-1] = layers[-1]._replace(bias=weights[0])
        elif layers:
            layers[-1] = layers[-1]._replace(activation=node.op_type)
    return layers
