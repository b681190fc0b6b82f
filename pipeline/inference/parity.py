"""Parity: do the ONNX models predict what the Keras network predicts?"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.core.errors import PipelineError
from pipeline.core.params import ExportParams
from pipeline.inference.onnx_model import Probabilities


class ParityError(PipelineError):
    """The exported model does not predict what the trained network predicts."""

    def __init__(self, model: str, expected: str, found: str) -> None:
        super().__init__(
            f"{model}: expected {expected}, found {found}.\n"
            "No model file was written. Check export: in params.yaml, and the versions of tf2onnx and onnxruntime."
        )


def compare(keras: Probabilities, float32: Probabilities, int8: Probabilities) -> dict[str, Any]:
    """Compare three models' probabilities of the same images, each `(n, classes)`.

    Returns:
        `images`, their number; `max_difference`, the largest difference of a probability between Keras and float32;
        `different_decisions`, the number of images that they classify differently; `int8_agreement`, the share of images,
        0 to 1, that float32 and int8 classify alike.
    """
    predicted = float32.argmax(axis=1)
    return {
        "images": len(keras),
        "max_difference": float(np.abs(keras - float32).max()),
        "different_decisions": int((keras.argmax(axis=1) != predicted).sum()),
        "int8_agreement": float((predicted == int8.argmax(axis=1)).mean()),
    }


def check(parity: Mapping[str, Any], params: ExportParams) -> None:
    """Check what `compare` returned.

    Raises:
        ParityError: float32 differs from Keras, or int8 agrees with float32 too rarely.
    """
    if not parity["max_difference"] <= params.tolerance:  # NaN is an error, too
        found = f"{parity['max_difference']:.3g}"
        raise ParityError("model.onnx", f"probabilities within {params.tolerance:g} (export.tolerance) of Keras", found)
    if parity["different_decisions"]:
        raise ParityError("model.onnx", "the predictions of Keras", f"{parity['different_decisions']} different ones")
    if parity["int8_agreement"] < params.int8_agreement:
        expected = f"agreement with model.onnx of at least {params.int8_agreement:g} (export.int8_agreement)"
        raise ParityError("model.int8.onnx", expected, f"{parity['int8_agreement']:.4f}")
