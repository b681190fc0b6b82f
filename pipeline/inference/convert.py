"""Convert a Keras network to ONNX, in float32 and int8."""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data import datasets, history
from pipeline.inference.onnx_model import INPUT, OUTPUT


def to_onnx(model: Any, opset: int, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """Trace the Keras `network` into a checked ONNX model of the contract in `pipeline.inference.onnx_model`.

    Raises:
        onnx.checker.ValidationError: what came out is not valid ONNX. The converter itself goes on after errors.
    """
    import tensorflow as tf
    import tf2onnx

    signature = [tf.TensorSpec(model.input_shape, tf.uint8, name=INPUT)]
    traced = tf.function(lambda image: {OUTPUT: model(image, training=False)}, input_signature=signature)
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


def metadata(params: Params, paths: Paths) -> dict[str, str]:
    """What the ONNX file says of itself: nothing that differs between two machines with the same inputs."""
    manifest = datasets.read_manifest(paths)
    last = history.read(paths.history)[-1]
    split = "validation" if "val_accuracy" in last else "train"
    chosen = json.dumps(params.model_dump(include={"model", "train"}), sort_keys=True)
    return {
        "dataset": manifest["dataset"],
        "data_fingerprint": manifest["fingerprint"],
        "params_fingerprint": hashlib.sha256(chosen.encode()).hexdigest(),
        "classes": json.dumps(manifest["classes"], ensure_ascii=False),
        "licence": f"data: {manifest['licence']}",
        "accuracy": f"{last.get('val_accuracy', last['accuracy']):.9g}",
        "accuracy_split": split,
    }


def add_metadata(path: Path, content: Mapping[str, str]) -> None:
    proto = onnx.load(path)
    describe(proto, content)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


def quantise(source: Path, target: Path) -> None:
    """Write the ONNX file `source` with int8 weights, and activations that are quantised as they come, to `target`."""
    from onnxruntime.quantization import QuantType, quantize_dynamic  # half a second, which predicting does not need

    # As a model and not as a path, beside which a copy would be written past Python, and taken for whole on a full disk.
    proto, disabled = onnx.load(source), logging.root.manager.disable
    logging.disable(logging.WARNING)  # it recommends a preprocessing that changes nothing in a dense network
    try:
        quantize_dynamic(proto, target, op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8)
    finally:
        logging.disable(disabled)
