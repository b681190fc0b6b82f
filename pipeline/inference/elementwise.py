"""Activations whose value depends on their input alone.

ONNX Runtime computes Elu, Selu and Softplus for 16 values at a time, and the rest in another way: the last bit depends on the
place in the batch, and so do the steps that an int8 model rounds to. Exp, Atanh and the other activations have no such places.
"""

import onnx
from onnx import defs, helper, parser

_CONSTANTS = {"zero": 0.0, "one": 1.0, "two": 2.0}
_ELU = ["low = Min(x, zero)", "power = Exp(low)", "below = Sub(power, one)", "scaled = Mul(below, alpha)", "above = Relu(x)"]
_FORMULAS = {
    "Elu": [*_ELU, "y = Add(above, scaled)"],
    "Selu": [*_ELU, "sum = Add(above, scaled)", "y = Mul(sum, gamma)"],
    # log(1 + p) = 2 atanh(p / (p + 2)), which keeps its precision for small p
    "Softplus": [
        *("size = Abs(x)", "minus = Neg(size)", "power = Exp(minus)", "more = Add(power, two)", "ratio = Div(power, more)"),
        *("half = Atanh(ratio)", "log = Mul(half, two)", "above = Relu(x)", "y = Add(above, log)"),
    ],
}


def rewritten(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The nodes that compute what `node` does, or `node` itself."""
    if node.op_type not in _FORMULAS:
        return [node]
    steps = [parser.parse_node(formula) for formula in _FORMULAS[node.op_type]]
    defaults = {name: attribute.default_value.f for name, attribute in defs.get_schema(node.op_type).attributes.items()}
    values = _CONSTANTS | defaults | {attribute.name: attribute.f for attribute in node.attribute}
    names = {"x": node.input[0], "y": node.output[0]}
    for step in steps:
        for tensors in (step.input, step.output):
            tensors[:] = [names.setdefault(name, f"{node.output[0]}_{name}") for name in tensors]
    constants = [
        helper.make_node("Constant", [], [names[name]], value_float=value) for name, value in values.items() if name in names
    ]
    return [*constants, *steps]
