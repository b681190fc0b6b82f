"""The search space of a sweep: parameters by their dotted names, with their ranges or choices."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from pipeline.core import params_errors
from pipeline.core.params import Params, RangeParams
from pipeline.distributed.errors import SweepError

_SECTIONS = ("model.", "train.")
_FIXED = ("train.epochs", "train.early_stopping", "train.validation_split")  # trials must agree in these to be comparable


def override(params: Params, changes: Mapping[str, Any]) -> Params:
    """Return a copy of the parameters with the named ones changed.

    Raises:
        SweepError: a sweep may not change this parameter, there is no such parameter, or a value is out of range.
    """
    content = params.model_dump(by_alias=True)
    for name, value in changes.items():
        *sections, key = name.split(".")
        section: Any = content
        for each in sections:
            section = section.get(each) if isinstance(section, dict) else None
        if not isinstance(section, dict) or key not in section or not name.startswith(_SECTIONS) or name in _FIXED:
            expected = f"parameters of model and train except {', '.join(_FIXED)}"
            raise SweepError(expected, name, "Correct sweep.search_space in params.yaml.")
        section[key] = value
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        listed = "; ".join(params_errors.describe(error, Params))
        raise SweepError("valid values", listed, "Correct sweep.search_space in params.yaml.") from error


def check(params: Params) -> None:
    """Raise SweepError if an end of a range or a choice is not a valid value."""
    for name, values in params.sweep.search_space.items():
        if isinstance(values, RangeParams):
            if not values.low < values.high or (values.log and values.low <= 0):
                expected = f"a low below high{', and above 0 for log' if values.log else ''} for {name}"
                raise SweepError(expected, f"{values.low:g} and {values.high:g}", "Correct sweep.search_space in params.yaml.")
            values_to_try: tuple[Any, ...] = (values.low, values.high)
        else:
            values_to_try = values.choices
        for value in values_to_try:
            override(params, {name: value})


def current(params: Params) -> dict[str, Any] | None:
    """Return the current values of the parameters in the search space, or None if one lies outside."""
    values_now = {}
    for name, values in params.sweep.search_space.items():
        if isinstance(values, RangeParams):
            value: Any = params.model_dump(by_alias=True)
            for key in name.split("."):
                value = value[key]
            if not values.low <= value <= values.high:
                return None
        else:  # a choice can be written in two ways: 256 and [256]
            equal = [choice for choice in values.choices if override(params, {name: choice}) == params]
            if not equal:
                return None
            value = equal[0]
        values_now[name] = value
    return values_now
