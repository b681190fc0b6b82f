"""The space that a sweep searches: parameters by their dotted names, and what they may be."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from pipeline.core import faults
from pipeline.core.errors import SweepError
from pipeline.core.params import Params, RangeParams

_SECTIONS = ("model.", "train.")
_FIXED = ("train.epochs", "train.early_stopping", "train.validation_split")  # by which trials are compared


def override(params: Params, changes: Mapping[str, Any]) -> Params:
    """The parameters with others in the place of those named.

    Raises:
        SweepError: there is no such parameter, it is not of those that a sweep may change, or a value is out of range.
    """
    content = params.model_dump(by_alias=True)
    for name, value in changes.items():
        *sections, key = name.split(".")
        section: Any = content
        for each in sections:
            section = section.get(each) if isinstance(section, dict) else None
        if not isinstance(section, dict) or key not in section or not name.startswith(_SECTIONS) or name in _FIXED:
            expected = f"parameters of model and train, without {' and '.join(_FIXED)}"
            raise SweepError(expected, name, "Correct sweep.space in params.yaml.")
        section[key] = value
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        listed = "; ".join(faults.describe(fault, Params) for fault in error.errors())
        raise SweepError("values that params.yaml may hold", listed, "Correct sweep.space in params.yaml.") from error


def check(params: Params) -> None:
    """Raise SweepError unless every corner of the space is a set of parameters that may be."""
    for name, values in params.sweep.space.items():
        for value in (values.low, values.high) if isinstance(values, RangeParams) else values.choices:
            override(params, {name: value})


def current(params: Params) -> dict[str, Any]:
    """What params.yaml says now of the parameters of the space."""
    found = {}
    for name in params.sweep.space:
        value: Any = params.model_dump(by_alias=True)
        for key in name.split("."):
            value = value[key]
        found[name] = value
    return found


def within(params: Params) -> bool:
    """Whether what params.yaml says now lies in the space."""
    for name, value in current(params).items():
        values = params.sweep.space[name]
        if isinstance(values, RangeParams):
            if not values.low <= value <= values.high:
                return False
        elif value not in values.choices:
            return False
    return True
