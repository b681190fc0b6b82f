"""Convert the Keras model to ONNX in float32 and int8, and check that both predict as it does.

Write model.onnx, model.int8.onnx and parity.json to data/model.

Example:
    python -m pipeline.export
"""

import sys
from typing import Any

import numpy as np
import onnx

from pipeline.core import console, files
from pipeline.core.params import ExportParams, Params
from pipeline.core.paths import Paths
from pipeline.data import datasets, history
from pipeline.data.datasets import Pixels
from pipeline.inference import convert, parity
from pipeline.inference.onnx_model import OnnxModel, Probabilities
from pipeline.training import tensorflow_setup

_IMAGES = 10_000  # training images to compare on when no validation split is held out


def parity_images(params: Params, paths: Paths) -> Pixels:
    """The validation images `(n, height, width)`, or training images if none are held out. Never test images."""
    images = datasets.load(paths, "train").images
    _, held_out = datasets.hold_out(datasets.train_rows(paths), params.train.validation_split)
    return images[held_out] if len(held_out) else np.asarray(images[:_IMAGES])


def to_onnx(params: Params, paths: Paths, images: Pixels) -> tuple[onnx.ModelProto, Probabilities]:
    """Convert the trained network; return it with the probabilities that Keras computes for `images`."""
    metadata = convert.metadata(params, datasets.read_manifest(paths), history.read(paths.history)[-1])
    with tensorflow_setup.lean_tensorflow(params.train.threads):  # late: it takes seconds, and wrong inputs are refused before
        from pipeline.training import network

        model = network.load(paths.keras)
        proto = convert.to_onnx(model, params.export.opset, metadata)
    return proto, np.asarray(model.predict(images, batch_size=1024, verbose=0))


def write(proto: onnx.ModelProto, images: Pixels, keras: Probabilities, params: ExportParams, paths: Paths) -> dict[str, Any]:
    """Write both ONNX files and return their parity. Where int8 is left out, its file is empty.

    Raises:
        ParityError: they do not predict what Keras predicts, `keras`, for `images`. Neither file is written.
    """
    with files.replacing(paths.onnx) as float32, files.replacing(paths.int8) as int8:
        onnx.save(proto, float32)
        probabilities = OnnxModel(float32).predict(images)
        found = parity.compare(keras, probabilities)
        parity.check(found, params)
        if params.int8 == "off":
            found["int8"] = parity.OFF
        else:
            onnx.save(convert.quantize(proto, images), int8)
            found |= parity.judge_int8(probabilities, OnnxModel(int8).predict(images), params)
        if found["int8"] != parity.EXPORTED:
            int8.write_bytes(b"")
    return found


def run(params: Params, paths: Paths) -> str:
    for stale in (paths.onnx, paths.int8, paths.parity):
        stale.unlink(missing_ok=True)  # a failed export must not leave the files of another network
    images = parity_images(params, paths)
    proto, keras = to_onnx(params, paths, images)
    found = write(proto, images, keras, params.export, paths)
    files.write_json(paths.parity, found)
    if found["int8"] not in (parity.EXPORTED, parity.OFF):
        console.echo("export", f"warning: {paths.int8} was {found['int8']}. All goes on with model.onnx alone")
    sizes = " and ".join(f"{path.name} ({path.stat().st_size / 1000:.0f} kB)" for path in paths.models().values())
    return f"{sizes}, within {found['max_difference']:.1e} of Keras on {len(images):,} images"


if __name__ == "__main__":
    sys.exit(console.run_stage("export", run, __doc__))
