"""Convert a Keras network to ONNX, in float32 and int8. Nothing here reads or writes files."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from pipeline.core.params import Params
from pipeline.data.datasets import Pixels
from pipeline.inference import elementwise, onnx_model, quantization
from pipeline.inference.onnx_model import INPUT, OUTPUT
from pipeline.inference.quantization import Floats

_PIXEL = np.float32(1 / 255)  # the network divides pixels by 255
_EXAMPLES = 1000  # images that decide on the steps of int8: more give no more


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
    del proto.opset_import[:]  # the converter also names operator sets that the network does not use
    proto.opset_import.append(helper.make_opsetid("", opset))
    proto.ir_version = helper.find_min_ir_version_for(proto.opset_import)
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


def quantize(proto: onnx.ModelProto, images: Pixels) -> onnx.ModelProto:
    """Return the float32 model `proto` with integer products. Its answer for an image depends on that image alone.

    An image consists of integers, so the first product takes it as it is. What enters the other products is rounded to steps
    whose size is fixed here, from the activations for `images`.
    """
    kernels = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer if len(tensor.dims) == 2}
    images = images[:_EXAMPLES]
    hidden = [layer.values for layer in onnx_model.hidden_layers(proto, images)]
    examples: Iterator[npt.NDArray[Any]] = iter([images.reshape(len(images), -1), *hidden])
    nodes: list[onnx.NodeProto] = []
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "MatMul":
            product, added = _integer_product(node, kernels[node.input[1]], next(examples), first=not nodes)
            nodes.extend(product)
            constants |= {name: numpy_helper.from_array(np.asarray(value), name) for name, value in added.items()}
        elif nodes:  # those before the first product scale the image
            nodes.extend(elementwise.rewritten(node))
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        proto.graph.name,
        proto.graph.input,
        proto.graph.output,
        [tensor for name, tensor in constants.items() if name in used],
    )
    model = helper.make_model(
        graph, opset_imports=proto.opset_import, ir_version=proto.ir_version, producer_name=proto.producer_name
    )
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    return _with_metadata(model, metadata | {"quantisation": "static int8"})


def _integer_product(
    product: onnx.NodeProto, kernel: Floats, examples: Floats, first: bool
) -> tuple[list[onnx.NodeProto], dict[str, Any]]:
    """The nodes that replace a product with `kernel`, and their constants. `examples` are inputs of the product."""
    prefix = product.name or product.output[0]
    steps, unit = quantization.steps(kernel, examples, most=64 if first else 127)
    if first:
        scale = _PIXEL
        constants: dict[str, Any] = {"steps": steps, "shape": np.array([-1, len(kernel)])}
        entry, factors = ["Reshape", INPUT, "shape"], ["input", "steps"]
    else:
        scale, zero = quantization.range_of(examples)
        constants = {"steps": (steps + np.int16(128)).astype(np.uint8), "middle": np.uint8(128), "scale": scale, "zero": zero}
        entry, factors = ["QuantizeLinear", product.input[0], "scale", "zero"], ["input", "steps", "zero", "middle"]
    constants["unit"] = scale * unit
    names = {key: f"{prefix}_{key}" for key in (*constants, "input", "sum", "float")}

    def node(operator: str, *inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(
            operator, [names.get(name, name) for name in inputs], [names.get(output, output)], **attributes
        )

    nodes = [
        node(*entry, output="input"),
        node("MatMulInteger", *factors, output="sum"),
        node("Cast", "sum", output="float", to=onnx.TensorProto.FLOAT),
        node("Mul", "float", "unit", output=product.output[0]),
    ]
    return nodes, {names[key]: value for key, value in constants.items()}


def _with_metadata(proto: onnx.ModelProto, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """Replace the metadata of `proto`, and check the model."""
    del proto.metadata_props[:]
    helper.set_model_props(proto, dict(metadata))
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
