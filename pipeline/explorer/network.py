"""The network as the page computes it: snapshots with quantized kernels, and the forward pass.

The kernels of snapshots are quantized to int8 with a scale per unit; the error of a weight is below half a percent of the
unit's largest weight. The exported model stays float32.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.data.datasets import Pixels, Split
from pipeline.evaluation import metrics
from pipeline.inference.onnx_model import Dense, Probabilities
from pipeline.training.snapshots import Weights

Floats = npt.NDArray[np.floating[Any]]

_INT8_MAX = 127
_BATCH = 2_000  # images per forward pass, which limits the memory for activations

# Activation functions as Keras defines them, by their names in params.yaml.
_ALPHA, _SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer and others, "Self-Normalizing Neural Networks", 2017
ACTIVATIONS: Mapping[str, Callable[[Floats], Floats]] = {
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.2 * z),
    "relu": lambda z: np.maximum(z, 0),
    "selu": lambda z: _SCALE * np.where(z > 0, z, _ALPHA * np.expm1(np.minimum(z, 0))),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "silu": lambda z: z / (1 + np.exp(-z)),
    "softplus": lambda z: np.logaddexp(0, z),
    "tanh": np.tanh,
}


def exported_weights(layers: Sequence[Dense]) -> Weights:
    """Return the weights of the exported model in the order of a `Snapshot`: kernel and bias of each layer."""
    return [array for layer in layers for array in (layer.kernel, layer.bias)]


def quantize(kernel: Floats) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Quantize a kernel `(inputs, units)` to int8 with a scale per unit `(units,)`."""
    scale = (np.abs(kernel).max(axis=0) / _INT8_MAX).astype(np.float32)
    return np.round(kernel / np.where(scale > 0, scale, 1)).astype(np.int8), scale


def round_trip(weights: Weights) -> Weights:
    """Quantize the kernels and convert them back to float32, which gives the weights that the page computes with."""
    return [_dequantize(*quantize(array)) if array.ndim == 2 else array for array in weights]


def _dequantize(steps: npt.NDArray[np.int8], scale: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(steps * scale, dtype=np.float32)


def forward(weights: Weights, activation: str, images: Pixels) -> Probabilities:
    """Predict images `(n, height, width)` uint8: probabilities `(n, classes)` float32 of the network with these weights."""
    batches = [_forward(weights, activation, images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)]
    return np.concatenate(batches)


def _forward(weights: Weights, activation: str, images: Pixels) -> Probabilities:
    values: Floats = np.reshape(images, (len(images), -1)) / 255  # float64, see `evaluate`
    with np.errstate(over="ignore"):  # exp may overflow to infinity; dividing by it gives 0, the correct limit
        for kernel, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
            values = ACTIVATIONS[activation](values @ kernel + bias)
    logits = values @ weights[-2] + weights[-1]
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), dtype=np.float32)


def evaluate(weights: Weights, activation: str, split: Split) -> dict[str, float]:
    """Compute accuracy and loss of the network with these weights on a split.

    The loss is rounded: NumPy's matrix products differ in the last digits with the processor and its number of cores.
    """
    probabilities = forward(weights, activation, split.images)
    accuracy, loss = metrics.accuracy(split.labels, probabilities), metrics.log_loss(split.labels, probabilities)
    return {"accuracy": accuracy, "loss": round(loss, 6)}
