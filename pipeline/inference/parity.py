"""Parity: do the ONNX models predict what the Keras network predicts?"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.core.errors import PipelineError
from pipeline.core.params import ExportParams
from pipeline.inference.onnx_model import Probabilities

EXPORTED, OFF = "exported", "left out: export.int8 is off"  # the state of model.int8.onnx, in parity.json


class ParityError(PipelineError):
    """The exported model does not predict what the trained network predicts."""

    def __init__(self, model: str, expected: str, found: str) -> None:
        super().__init__(
            f"{model}: expected {expected}, found {found}.\n"
            "No model file was written. Check export: in params.yaml, and the versions of tf2onnx and onnxruntime."
        )


def compare(keras: Probabilities, float32: Probabilities) -> dict[str, Any]:
    """Compare two models' probabilities of the same images, each `(n, classes)`.

    Returns:
        `images`, their number; `max_difference`, the largest difference of a probability; `different_decisions`, the number of
        images that they classify differently.
    """
    return {
        "images": len(keras),
        "max_difference": float(np.abs(keras - float32).max()),
        "different_decisions": int((keras.argmax(axis=1) != float32.argmax(axis=1)).sum()),
    }


def check(parity: Mapping[str, Any], params: ExportParams) -> None:
    """Check what `compare` returned.

    Raises:
        ParityError: float32 differs from Keras.
    """
    if not parity["max_difference"] <= params.tolerance:  # NaN is an error, too
        found = f"{parity['max_difference']:.3g}"
        raise ParityError("model.onnx", f"probabilities within {params.tolerance:g} (export.tolerance) of Keras", found)
    if parity["different_decisions"]:
        raise ParityError("model.onnx", "the predictions of Keras", f"{parity['different_decisions']} different ones")


def judge_int8(float32: Probabilities, int8: Probabilities, params: ExportParams) -> dict[str, Any]:
    """Whether int8 classifies the images as float32 does.

    Returns:
        `int8_agreement`, the share of images, 0 to 1, that both classify alike; `int8`, EXPORTED or why it is left out.

    Raises:
        ParityError: int8 disagrees too often, and export.int8 is `required`.
    """
    agreement = float((float32.argmax(axis=1) == int8.argmax(axis=1)).mean())
    if agreement >= params.int8_agreement:
        return {"int8": EXPORTED, "int8_agreement": agreement}
    expected = f"agreement with model.onnx of at least {params.int8_agreement:g} (export.int8_agreement)"
    if params.int8 == "required":
        raise ParityError("model.int8.onnx", f"{expected}, because export.int8 is required", f"{agreement:.4f}")
    return {"int8": f"left out: expected {expected}, found {agreement:.4f}", "int8_agreement": agreement}
