"""What pydantic finds wrong with the parameters, in words that a person can act on."""

import difflib
import reprlib
from typing import Any, get_args

from pydantic import BaseModel

from pipeline.core.urls import redacted_text

# Where pydantic speaks of Python, in the words of YAML.
_EXPECTED = {
    "invalid_key": "keys that are text",
    "missing": "one more item",
    "model_type": "keys with values",
    "string_pattern_mismatch": "text that matches {pattern}",
    "string_too_short": "text",
    "too_long": "at most {max_length} item(s)",
    "too_short": "at least {min_length} item(s)",
    "tuple_type": "a list",
    "value_error": "{error}",
}


# Keys that had another name in earlier versions of params.yaml.
_RENAMED = {
    "validate.likeness": "near_duplicate_distance",
    "validate.conflicts": "conflicting_labels",
    "validate.doubtful_labels": "label_issues",
    "train.weight_averaging": "ema_momentum",
    "train.distortion": "augmentation",
    "promote.floors": "minimum",
    "promote.ceilings": "maximum",
    "retrain.stale_after": "max_age_days",
    "drift.smallest_effect": "min_effect_size",
    "drift.minimum_images": "min_images",
    "sweep.grace": "grace_period",
    "sweep.reduction": "reduction_factor",
    "sweep.retries": "max_failures",
    "sweep.cores": "cpus_per_trial",
    "sweep.space": "search_space",
}


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxdict, self.maxstring, self.maxother = 4, 10, 10, 200, 60

    def repr_int(self, x: int, level: int) -> str:
        """Python does not write out what has more than 4,300 digits."""
        return super().repr_int(x, level) if x.bit_length() < 10_000 else "a number of some thousand digits"


_SHORT = _Short()


def shown(value: Any) -> str:
    """`value` in one line, however large it is, without the credentials of addresses in it."""
    return redacted_text(_SHORT.repr(value))


def describe(fault: Any, model: type[BaseModel]) -> str:
    """One fault that pydantic found in what was to be a `model`: where, what was expected, what was found.

    A validator of ours says what it found as `found` in the context of a PydanticCustomError.
    """
    location = [part for part in fault["loc"] if isinstance(part, str)]
    where = ".".join(location)
    if fault["type"] == "extra_forbidden" and where in _RENAMED:
        return f"{where} is now called {_RENAMED[where]}"
    if fault["type"] == "extra_forbidden":
        return f"{where} is unknown{_suggestion(location, model)}"
    if fault["type"] == "missing" and fault["loc"][-1] == location[-1]:
        return f"{where} is missing"
    words = _EXPECTED.get(fault["type"])
    expected = words.format(**fault.get("ctx", {})) if words else fault["msg"].removeprefix("Input should be ")
    if told := fault.get("ctx", {}).get("found"):
        return f"{where}: expected {expected}, found {told}"
    found = list(fault["input"]) if isinstance(fault["input"], tuple) else fault["input"]
    return f"{where or 'top level'}: expected {expected}, found {shown(found)}"


def _suggestion(location: list[str], model: type[BaseModel]) -> str:
    """The known key nearest to an unknown one: ` (did you mean epochs?)`."""
    section: Any = model
    for name in location[:-1]:
        field = section.model_fields.get("validate_" if name == "validate" else name)
        section = field.annotation if field else None
        while within := get_args(section):  # of a list
            section = within[0]
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            return ""
    known = [field.alias or name for name, field in section.model_fields.items()]
    close = difflib.get_close_matches(location[-1], known, n=1)
    return f" (did you mean {close[0]}?)" if close else f" (known: {', '.join(known)})"
