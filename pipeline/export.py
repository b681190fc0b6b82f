"""Convert the Keras model to ONNX in float32 and int8, and check that both predict as it does.

Write model.onnx, model.int8.onnx and parity.json to data/model.

Example:
    python -m pipeline.export
"""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from pipeline.core import console, files
from pipeline.core.errors import PipelineError
from pipeline.core.params import ExportParams, Params
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.data.datasets import Pixels
from pipeline.inference import convert
from pipeline.inference.onnx_model import OnnxModel, Probabilities
from pipeline.training import tensorflow_setup

_SAMPLE = 10_000  # training images that parity is proved on when no validation split is held out


class ExportError(PipelineError):
    """The exported file is not the model that was trained."""

    def __init__(self, what: str, expected: str, found: str) -> None:
        super().__init__(
            f"{what}: expected {expected}, found {found}.\n"
            "No model file was left behind. Check export: in params.yaml, and the versions of tf2onnx and onnxruntime."
        )


def compare(expected: Probabilities, float32: Probabilities, int8: Probabilities) -> dict[str, Any]:
    """How far the exported models are from Keras on the same images."""
    decisions = expected.argmax(axis=1)
    return {
        "images": len(expected),
        "max_difference": float(np.abs(expected - float32).max()),
        "different_decisions": int((decisions != float32.argmax(axis=1)).sum()),
        "int8_agreement": float((float32.argmax(axis=1) == int8.argmax(axis=1)).mean()),
    }


def check(parity: Mapping[str, Any], params: ExportParams) -> None:
    """Raise ExportError unless the float32 file decides as Keras does, and the int8 file as often as it must."""
    if not parity["max_difference"] <= params.tolerance:
        found = f"{parity['max_difference']:.3g}"
        raise ExportError("model.onnx", f"probabilities within {params.tolerance:g} (export.tolerance) of Keras", found)
    if parity["different_decisions"]:
        raise ExportError("model.onnx", "the decisions of Keras", f"{parity['different_decisions']} others")
    if parity["int8_agreement"] < params.int8_agreement:
        expected = f"at least {params.int8_agreement:g} (export.int8_agreement) of the decisions of model.onnx"
        raise ExportError("model.int8.onnx", expected, f"{parity['int8_agreement']:.4f}")


def parity_sample(paths: Paths, params: Params) -> Pixels:
    """The held-out validation images, or training images where none are held out. Never test images."""
    images = datasets.load(paths, "train").images
    _, held_out = datasets.hold_out(datasets.train_rows(paths), params.train.validation_split)
    return images[held_out] if len(held_out) else np.asarray(images[:_SAMPLE])


def write(proto: onnx.ModelProto, model: Any, images: Pixels, params: ExportParams, paths: Paths) -> dict[str, Any]:
    """Write both ONNX files once they have proved right on `images`; return their parity."""
    with files.replacing(paths.onnx) as float32, files.replacing(paths.int8) as int8:
        onnx.save(proto, float32)
        convert.quantise(float32, int8)
        convert.add_metadata(
            int8, {entry.key: entry.value for entry in proto.metadata_props} | {"quantisation": "dynamic int8"}
        )
        expected = np.asarray(model.predict(images, batch_size=1024, verbose=0))
        parity = compare(expected, OnnxModel(float32).predict(images), OnnxModel(int8).predict(images))
        check(parity, params)
    return parity


def run(params: Params, paths: Paths) -> str:
    for stale in (paths.onnx, paths.int8, paths.parity):
        stale.unlink(missing_ok=True)  # it belongs to another network than the one about to be exported
    images = parity_sample(paths, params)
    with tensorflow_setup.lean_tensorflow():  # TensorFlow takes seconds: after the parameters and the data have proved right
        from pipeline.training import network

        model = network.load(paths.keras)
        proto = convert.to_onnx(model, params.export.opset, convert.metadata(params, paths))
    parity = write(proto, model, images, params.export, paths)
    files.write_json(paths.parity, parity)
    sizes = " and ".join(f"{path.name} ({path.stat().st_size / 1000:.0f} kB)" for path in (paths.onnx, paths.int8))
    return f"{sizes}, within {parity['max_difference']:.1e} of Keras on {len(images):,} images"


if __name__ == "__main__":
    sys.exit(console.run_stage("export", run, __doc__))
