"""Convert a Keras network to ONNX, in float32 and int8. Nothing here reads or writes files."""

import hashlib
import io
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import onnx

from pipeline.core.params import Params
from pipeline.inference.onnx_model import INPUT, OUTPUT


def to_onnx(model: Any, opset: int, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """Trace the Keras `model` into a checked ONNX model with the input and output that `onnx_model` describes.

    Raises:
        onnx.checker.ValidationError: the result is not valid ONNX. The converter itself ignores its errors.
    """
    import tensorflow as tf
    import tf2onnx

    signature = [tf.TensorSpec(model.input_shape, tf.uint8, name=INPUT)]
    traced = tf.function(lambda image: {OUTPUT: model(image, training=False)}, input_signature=signature)
    proto: onnx.ModelProto
    proto, _ = tf2onnx.convert.from_function(traced, input_signature=signature, opset=opset)
    _rename_tensors(proto.graph)
    return _with_metadata(proto, metadata)


def _rename_tensors(graph: onnx.GraphProto) -> None:
    """Name nodes and tensors by their index: the converter's own names differ from call to call."""
    graph.name, graph.doc_string = "network", ""
    names = {INPUT: INPUT, OUTPUT: OUTPUT}
    for number, node in enumerate(graph.node, 1):
        node.name = f"{node.op_type.lower()}_{number}"
        for role, tensors in (("constant", node.input), ("result", node.output)):
            for index, tensor in enumerate(tensors):
                tensors[index] = names.setdefault(tensor, f"{node.name}_{role}_{index}")
    for tensor in graph.initializer:
        tensor.name = names[tensor.name]
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"


def quantize(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return `proto` with int8 weights. Activations are quantized at run time, with a scale for each call."""
    from onnxruntime.quantization import QuantType, quantize_dynamic  # takes half a second

    buffer = io.BytesIO()
    with _warnings_off():  # it recommends a preprocessing step that changes nothing in a dense network
        quantize_dynamic(proto, buffer, op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8)
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    return _with_metadata(onnx.load_model_from_string(buffer.getvalue()), metadata | {"quantisation": "dynamic int8"})


@contextmanager
def _warnings_off() -> Iterator[None]:
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)


def _with_metadata(proto: onnx.ModelProto, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """Replace the metadata of `proto`, and check the model."""
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, dict(metadata))
    onnx.checker.check_model(proto, full_check=True)
    return proto


def metadata(params: Params, manifest: Mapping[str, Any], last_epoch: Mapping[str, float]) -> dict[str, str]:
    """The metadata of the ONNX files. It depends on the inputs alone, so that every machine writes the same bytes.

    Args:
        params: all parameters.
        manifest: of the data.
        last_epoch: the last entry of the training history.
    """
    split, metric = ("validation", "val_accuracy") if "val_accuracy" in last_epoch else ("train", "accuracy")
    chosen = json.dumps(params.model_dump(include={"model", "train"}), sort_keys=True)
    return {
        "dataset": manifest["dataset"],
        "data_fingerprint": manifest["fingerprint"],
        "params_fingerprint": hashlib.sha256(chosen.encode()).hexdigest(),
        "classes": json.dumps(manifest["classes"], ensure_ascii=False),
        "licence": f"data: {manifest['licence']}",
        "accuracy": f"{last_epoch[metric]:.9g}",
        "accuracy_split": split,
    }
