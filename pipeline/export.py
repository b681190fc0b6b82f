"""Stage export: Keras -> ONNX in float32 and int8, each proved to decide as the network that was trained."""

import csv
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from pipeline.core import console, datasets, files, imports, inference
from pipeline.core.datasets import Pixels
from pipeline.core.errors import ExportError
from pipeline.core.inference import INPUT, OUTPUT, OnnxModel, Probabilities
from pipeline.core.params import ExportParams, Params
from pipeline.core.paths import Paths

_SAMPLE = 10_000  # training images that parity is proved on when no validation split is held out


def convert(network: Any, opset: int, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """Trace the Keras `network` into a checked ONNX model of the contract in `pipeline.core.inference`.

    Raises:
        onnx.checker.ValidationError: what came out is not valid ONNX. The converter itself goes on after errors.
    """
    import tensorflow as tf
    import tf2onnx

    signature = [tf.TensorSpec(network.input_shape, tf.uint8, name=INPUT)]
    traced = tf.function(lambda image: {OUTPUT: network(image, training=False)}, input_signature=signature)
    proto: onnx.ModelProto
    proto, _ = tf2onnx.convert.from_function(traced, input_signature=signature, opset=opset)
    _name_in_order(proto.graph)
    describe(proto, metadata)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _name_in_order(graph: onnx.GraphProto) -> None:
    """Name what stands between input and output by its place: the converter's names count on from one call to the next."""
    graph.name, graph.doc_string = "network", ""
    names = {INPUT: INPUT, OUTPUT: OUTPUT}
    for number, node in enumerate(graph.node, 1):
        node.name = f"{node.op_type.lower()}_{number}"
        for role, tensors in (("constant", node.input), ("result", node.output)):
            for place, tensor in enumerate(tensors):
                tensors[place] = names.setdefault(tensor, f"{node.name}_{role}_{place}")
    for tensor in graph.initializer:
        tensor.name = names[tensor.name]
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"


def describe(proto: onnx.ModelProto, metadata: Mapping[str, str]) -> None:
    """Replace the metadata in `proto`."""
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, dict(metadata))


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


def metadata(params: Params, paths: Paths) -> dict[str, str]:
    """What the ONNX file says of itself: nothing that differs between two machines with the same inputs."""
    manifest = datasets.read_manifest(paths)
    with files.require(paths.history).open(encoding="utf-8", newline="") as file:
        *_, last = csv.DictReader(file)
    split = "validation" if "val_accuracy" in last else "train"
    chosen = json.dumps(params.model_dump(include={"model", "train"}), sort_keys=True)
    return {
        "dataset": manifest["dataset"],
        "data_fingerprint": manifest["fingerprint"],
        "params_fingerprint": hashlib.sha256(chosen.encode()).hexdigest(),
        "classes": json.dumps(manifest["classes"], ensure_ascii=False),
        "licence": f"data: {manifest['licence']}",
        "accuracy": last.get("val_accuracy", last["accuracy"]),
        "accuracy_split": split,
    }


def parity_sample(paths: Paths, params: Params) -> Pixels:
    """The held-out validation images, or training images where none are held out. Never test images."""
    images = datasets.load(paths, "train").images
    _, held_out = datasets.hold_out(datasets.train_rows(paths), params.train.validation_split)
    return images[held_out] if len(held_out) else np.asarray(images[:_SAMPLE])


def write(proto: onnx.ModelProto, network: Any, images: Pixels, params: ExportParams, paths: Paths) -> dict[str, Any]:
    """Write both ONNX files once they have proved right on `images`; return their parity."""
    with files.replacing(paths.onnx) as float32, files.replacing(paths.int8) as int8:
        onnx.save(proto, float32)
        inference.quantise(float32, int8)
        _add_metadata(int8, {entry.key: entry.value for entry in proto.metadata_props} | {"quantisation": "dynamic int8"})
        expected = np.asarray(network.predict(images, batch_size=1024, verbose=0))
        parity = compare(expected, OnnxModel(float32).predict(images), OnnxModel(int8).predict(images))
        check(parity, params)
    return parity


def _add_metadata(path: Path, content: Mapping[str, str]) -> None:
    proto = onnx.load(path)
    describe(proto, content)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


def run(params: Params, paths: Paths) -> str:
    for stale in (paths.onnx, paths.int8, paths.parity):
        stale.unlink(missing_ok=True)  # it belongs to another network than the one about to be exported
    images = parity_sample(paths, params)
    with imports.lean_tensorflow():  # TensorFlow takes seconds: after the parameters and the data have proved right
        from pipeline.core import model

        network = model.load(paths.keras)
        proto = convert(network, params.export.opset, metadata(params, paths))
    parity = write(proto, network, images, params.export, paths)
    files.write_json(paths.parity, parity)
    sizes = " and ".join(f"{path.name} ({path.stat().st_size / 1000:.0f} kB)" for path in (paths.onnx, paths.int8))
    return f"{sizes}, within {parity['max_difference']:.1e} of Keras on {len(images):,} images"


if __name__ == "__main__":
    sys.exit(console.run_stage("export", run))
