"""Integers for weights and activations. Pure NumPy: arrays in, arrays out.

A quantized value stands for `scale * (steps - zero)`. float64 keeps the rounding independent of the processor.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

_BYTE = 255  # activations are uint8
_SUM = 2**31 - 1  # what 32 bits hold
_OUTLIERS = 0.01  # percent of the activations that may be cut off on each side
_BLOCK = 256  # inputs whose errors may compensate each other; memory grows with its square
_DAMPING = 0.01  # share of the mean of the diagonal, as in the paper


def range_of(values: Floats) -> tuple[np.float32, np.uint8]:
    """The scale and the zero of uint8 steps for activations like `values`. The activation 0 has a step of its own."""
    low, high = np.percentile(values, [_OUTLIERS, 100 - _OUTLIERS])
    low, high = min(0.0, float(low)), max(0.0, float(high))
    scale = np.float32((high - low) / _BYTE or 1 / _BYTE)
    return scale, np.uint8(round(-low / float(scale)))


def steps(kernel: Floats, inputs: Floats, most: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Quantize a kernel `(inputs, units)` to int8, with a scale for each unit `(units,)`.

    GPTQ (Frantar and others, 2022): the weights of later inputs compensate the error of a rounded weight, as far as the inputs
    are correlated. Neighbouring pixels are, so that 7 bits lose no more than 8 bits without it.

    Args:
        inputs: examples of what the kernel is multiplied with, `(n, inputs)`.
        most: the largest weight of each unit, in steps; fewer if sums of the products could exceed 32 bits.
    """
    most = min(most, _SUM // (_BYTE * len(kernel)))
    scale = (np.abs(kernel).max(axis=0) / most).astype(np.float32)
    divisor = np.where(scale > 0, scale, 1).astype(np.float64)
    rounded = np.empty(kernel.shape, np.int8)
    for start in range(0, len(kernel), _BLOCK):
        block = slice(start, start + _BLOCK)
        rounded[block] = _gptq(kernel[block] / divisor, inputs[:, block], most)
    return rounded, scale


def _gptq(weights: Floats, inputs: Floats, most: int) -> Floats:
    """Round `weights` `(inputs, units)`, given in steps, to whole steps from `-most` to `most`."""
    examples = inputs.astype(np.float64)
    hessian = examples.T @ examples
    hessian[np.diag_indices(len(hessian))] += _DAMPING * hessian.diagonal().mean() or 1.0
    factor = np.linalg.cholesky(np.linalg.inv(hessian)).T
    left = weights.astype(np.float64)
    rounded = np.empty_like(left)
    for row in range(len(left)):
        rounded[row] = np.clip(np.rint(left[row]), -most, most)
        error = (left[row] - rounded[row]) / factor[row, row]
        left[row + 1 :] -= np.outer(factor[row, row + 1 :], error)
    return rounded
