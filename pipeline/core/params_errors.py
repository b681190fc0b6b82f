"""Turn pydantic's validation errors into messages in the terms of params.yaml."""

import difflib
import reprlib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from pipeline.core.urls import redacted_text

# Messages of pydantic that use Python's terms, in those of YAML.
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


_FOUND = ", found "
_MOST = 3  # values of one kind that are shown


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxdict, self.maxstring, self.maxother = 4, 10, 10, 200, 60

    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to print a number of more than 4,300 digits."""
        return super().repr_int(x, level) if x.bit_length() < 10_000 else "a number of several thousand digits"


_SHORT = _Short()


def shown(value: Any) -> str:
    """`value` in one short line, without the credentials of the URLs in it."""
    return redacted_text(_SHORT.repr(value))


def describe(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line per kind of problem: where it is, what was expected, what was found.

    If a key has an old name, only that is reported, and not also that its new name is missing.
    """
    problems = error.errors()
    old = {_dotted(problem) for problem in problems if problem["type"] == "extra_forbidden"} & _RENAMED.keys()
    new = {f"{name.rpartition('.')[0]}.{_RENAMED[name]}" for name in old}
    lines = [_describe(problem, model) for problem in problems if problem["type"] != "missing" or _dotted(problem) not in new]
    return _grouped(lines)


def _grouped(lines: list[str]) -> list[str]:
    """Join the problems that differ only in what was found, as in each item of a list."""
    found: dict[str, list[str]] = {}
    for line in lines:
        kind, _, value = line.partition(_FOUND)
        found.setdefault(kind, []).append(value)
    return [f"{kind}{_FOUND}{_listed(values)}" if any(values) else kind for kind, values in found.items()]


def _listed(values: list[str]) -> str:
    more = len(values) - _MOST
    return ", ".join(values[:_MOST]) + (f" and {more} more" if more > 0 else "")


def _describe(problem: Any, model: type[BaseModel]) -> str:
    """Describe one problem. Validators in params.py pass `found` in the context of a PydanticCustomError."""
    where, kind = _dotted(problem), problem["type"]
    if kind == "extra_forbidden" and where in _RENAMED:
        return f"{where} is now called {_RENAMED[where]}"
    if kind == "extra_forbidden":
        return f"{where} is unknown{_suggestion(where.split('.'), model)}"
    if kind == "missing" and isinstance(problem["loc"][-1], str):
        return f"{where} is missing"
    context = problem.get("ctx", {})
    expected = _EXPECTED[kind].format(**context) if kind in _EXPECTED else problem["msg"].removeprefix("Input should be ")
    value = list(problem["input"]) if isinstance(problem["input"], tuple) else problem["input"]
    return f"{where or 'top level'}: expected {expected}, found {context.get('found') or shown(value)}"


def _dotted(problem: Any) -> str:
    """The key of a problem, without positions in lists: `fetch.extra.name`."""
    return ".".join(part for part in problem["loc"] if isinstance(part, str))


def _suggestion(location: list[str], model: type[BaseModel]) -> str:
    """The closest known key: ` (did you mean epochs?)`."""
    section: Any = model
    for name in location[:-1]:
        field = section.model_fields.get("validate_" if name == "validate" else name)
        section = field.annotation if field else None
        while within := get_args(section):  # the type of its items
            section = within[0]
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            return ""
    known = [field.alias or name for name, field in section.model_fields.items()]
    close = difflib.get_close_matches(location[-1], known, n=1)
    return f" (did you mean {close[0]}?)" if close else f" (known: {', '.join(known)})"
