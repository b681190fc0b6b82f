"""The space that a sweep searches: parameters by their dotted names, and what they may be."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from pipeline.core import params_errors
from pipeline.core.params import Params, RangeParams
from pipeline.distributed.errors import SweepError

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
            raise SweepError(expected, name, "Correct sweep.search_space in params.yaml.")
        section[key] = value
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        listed = "; ".join(params_errors.describe(error, Params))
        raise SweepError("values that params.yaml may hold", listed, "Correct sweep.search_space in params.yaml.") from error


def check(params: Params) -> None:
    """Raise SweepError unless every corner of the space is a set of parameters that may be."""
    for name, values in params.sweep.search_space.items():
        if isinstance(values, RangeParams):
            if not values.low < values.high or (values.log and values.low <= 0):
                expected = f"a low below high{', and above 0 for log' if values.log else ''}, of {name}"
                raise SweepError(expected, f"{values.low:g} and {values.high:g}", "Correct sweep.search_space in params.yaml.")
            corners: tuple[Any, ...] = (values.low, values.high)
        else:
            corners = values.choices
        for value in corners:
            override(params, {name: value})


def current(params: Params) -> dict[str, Any] | None:
    """What params.yaml says now of the parameters of the space, as the space has it; None where that is not in the space."""
    found = {}
    for name, values in params.sweep.search_space.items():
        if isinstance(values, RangeParams):
            value: Any = params.model_dump(by_alias=True)
            for key in name.split("."):
                value = value[key]
            if not values.low <= value <= values.high:
                return None
        else:  # a choice may be written in more than one way: 256 and [256]
            same = [choice for choice in values.choices if override(params, {name: choice}) == params]
            if not same:
                return None
            value = same[0]
        found[name] = value
    return found
