"""How far another runtime's probabilities may be from ours: the bound on what float32 rounding can change.

Each float32 operation is exact up to a factor of 1 ± U. Runtimes add in another order, merge operations and have their own exp
and tanh. Roundings go up as often as down. So whatever the order, the error of a sum of n products is at most 4 √n U times the
sum of their sizes in all but one of a thousand cases (Higham and Mary, A New Approach to Probabilistic Rounding Error
Analysis, 2019), and errors of different inputs add up as independent ones do. Zeros, most of an image, add none. Sums of
integers are exact. Lower precision (bfloat16, TF32) exceeds the bound.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.data.datasets import Pixels
from pipeline.inference.onnx_model import Dense, Hidden, Probabilities

_U = 2.0**-24
_AFTER = 3  # roundings beside the sum: the scale, the bias, a merged constant
_FUNCTION = 16 * _U  # relative error that a library's exp, tanh and the like may have
_STEEPEST = 1.76  # slope of the steepest activation of params.yaml, selu
_EXACT = {"", "Relu"}  # activations that do not round

Floats = npt.NDArray[np.float64]


def derive(layers: Sequence[Dense], images: Pixels, hidden: Sequence[Hidden], probabilities: Probabilities) -> float:
    """The largest difference of a probability, rounded up to one digit.

    Args:
        layers: of the float32 file.
        images: `(n, height, width)`.
        hidden: the activations for `images`, of the file in question.
        probabilities: its answer, `(n, classes)`.
    """
    entering = [np.reshape(images, (len(images), -1)) / 255.0, *(layer.values.astype(np.float64) for layer in hidden)]
    integers = any(layer.step for layer in hidden)
    error = np.zeros_like(entering[0])
    for number, (layer, values) in enumerate(zip(layers, entering, strict=True)):
        if number and (step := hidden[number - 1].step):
            error = _rounded(error, values, step)
        error = _product(error, values, layer, exact=integers)
        if number + 1 < len(layers):
            size = np.zeros(()) if layer.activation in _EXACT else np.maximum(1, np.abs(entering[number + 1]))
            error = _STEEPEST * error + _FUNCTION * size
    # The slope of the softmax: dp = p (1 - p) dz where one logit grows by dz and the others shrink by as much.
    change = 2 * probabilities * (1 - probabilities) * error.max(axis=1, keepdims=True) + _FUNCTION * probabilities
    return _one_digit(float(change.max()))


def _product(error: Floats, values: Floats, layer: Dense, exact: bool) -> Floats:
    """The error of the layer's sums, given that of its inputs. Sums of integers are exact."""
    weights = np.abs(layer.kernel.astype(np.float64))
    sizes = np.abs(values) @ weights + np.abs(layer.bias)
    if exact:
        return np.asarray(error @ weights + _AFTER * _U * sizes)
    terms = _AFTER + np.count_nonzero(values, axis=1, keepdims=True)
    return np.asarray(np.sqrt(error**2 @ weights**2) + 4 * np.sqrt(terms) * _U * sizes)


def _rounded(error: Floats, values: Floats, step: float) -> Floats:
    """The error after rounding to steps: a whole step where the middle between two is within reach, else none."""
    fraction = values / step - np.floor(values / step)
    return np.where(np.abs(fraction - 0.5) * step <= error, step, 0.0)


def _one_digit(value: float) -> float:
    """Round up to one significant digit."""
    unit = 10.0 ** math.floor(math.log10(value))
    return float(f"{math.ceil(value / unit) * unit:.0e}")
