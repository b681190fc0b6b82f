"""The outcome of an expectation in words: what was found, which parameter governs it, and a value that would pass."""

from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, NamedTuple

import pandas as pd

EXTRA = "extra-"  # the prefix of the suites of extra data sets

_DIGITS = 4  # of a value that would pass
_EXAMPLES = 3  # images that an error line names
_PICTURES = 12  # images that the report shows

EACH, MEAN, OBSERVED = "each", "mean", "observed"  # what the parameter bounds: every value of a column, its mean, or a result


class Governed(NamedTuple):
    """An expectation whose bound is a parameter.

    `offset` is what the expectation allows beyond the parameter, such as the images of extra data sets.
    """

    key: str
    value: Sequence[float] | float  # a range, or a maximum
    of: str = OBSERVED
    offset: float = 0


class Measured(NamedTuple):
    """What was found as numbers: a value, or the least and the most of the values of all images, and their bounds."""

    low: float | None
    high: float | None
    least: float
    most: float


class Outcome(NamedTuple):
    """The result of one expectation; `expected` and `observed` are texts for people."""

    suite: str
    expectation: str
    expected: str
    observed: str
    success: bool
    remedy: str = ""  # of a broken expectation: its parameter, and a value that would pass
    measured: Measured | None = None
    images: tuple[tuple[int, str], ...] = ()  # the first that break the expectation or count against it: row and name

    @property
    def subject(self) -> str:
        """The split or the extra data set, in words."""
        return subject(self.suite)


def subject(suite: str) -> str:
    return f"extra {suite.removeprefix(EXTRA)}" if suite.startswith(EXTRA) else f"{suite} split"


def outcome(suite: str, result: Any, table: pd.DataFrame) -> Outcome:
    """The outcome of an expectation of `suite` on `table`, from the result of Great Expectations."""
    meta, found = result.expectation_config.meta, result.result
    texts = (meta["name"], meta["expected"], _observed(result, meta["flag"]))
    made = Outcome(suite, *texts, bool(result.success), "", _measured(result, table), _images_against(result, table))
    if made.success:
        return made
    governed = Governed(*meta["governed"]) if meta["governed"] else None
    column = table.get(result.expectation_config.kwargs.get("column"))
    return made._replace(remedy=_remedy(governed, found or {}, column))


def _measured(result: Any, table: pd.DataFrame) -> Measured | None:
    """The numbers behind an outcome; None if there are none, for example because the check could not run."""
    found, bounds = result.result or {}, result.expectation_config.kwargs
    low, high = bounds.get("min_value"), bounds.get("max_value", bounds.get("threshold"))
    if not found.get("element_count"):
        value = found.get("observed_value")
        return Measured(low, high, value, value) if isinstance(value, int | float) else None
    if result.expectation_config.meta["flag"] or "value_set" in bounds:
        share = found["unexpected_count"] / found["element_count"]
        return Measured(0, 1 - bounds.get("mostly", 1), share, share)
    values = table[bounds["column"]]
    return Measured(low, high, float(values.min()), float(values.max()))


def _images_against(result: Any, table: pd.DataFrame) -> tuple[tuple[int, str], ...]:
    found, column = result.result or {}, table.get(result.expectation_config.kwargs.get("column"))
    names = found.get("partial_unexpected_index_list", [])
    if "element_count" not in found and column is not None and column.dtype == bool:  # the mean of a flag
        names = column.index[column].to_list()
    rows = table.index.get_indexer(names[:_PICTURES]).tolist()
    return tuple((row, f"#{name}") for row, name in zip(rows, names, strict=False))


def _observed(result: Any, flag: bool) -> str:
    # A flat dictionary if the check ran, else keyed by the metrics that failed.
    for failure in result.exception_info.values():
        if isinstance(failure, dict):
            return f"a check that could not run: {failure['exception_message']}"
    found = result.result
    if "element_count" in found:
        return _images(found, with_values=not flag)
    if "missing_count" in found:
        return ", ".join(f"no {label}" for label in found["partial_missing_list"]) or "each"
    return "infinite" if found["observed_value"] is None else number(found["observed_value"])


def _images(found: Mapping[str, Any], with_values: bool) -> str:
    """The number of images that break an expectation, with examples: `2 of 3,000 images outside: #17 (0), #40 (12)`."""
    count = f"{found['unexpected_count']:,} of {found['element_count']:,} images"
    indices, values = found["partial_unexpected_index_list"], found["partial_unexpected_list"]
    examples = [
        f"#{index} ({number(value)})" if with_values else f"#{index}"
        for index, value in zip(indices[:_EXAMPLES], values, strict=False)
    ]
    if not examples:
        return count
    more = ["…"] if found["unexpected_count"] > len(examples) else []
    return f"{count}{' outside' if with_values else ''}: {', '.join(examples + more)}"


def number(value: float) -> str:
    """A number for people; five digits are enough, and the same on every machine."""
    return f"{int(value):,}" if value == int(value) else f"{value:.5g}"


def _remedy(governed: Governed | None, result: Mapping[str, Any], column: "pd.Series[Any] | None") -> str:
    """For example `validate.mean_intensity: [25, 45] -> [25, 72.95] would pass`."""
    if governed is None:
        return "no parameter of validate governs it: fetch.classes names the labels"
    low, high = _extremes(governed, result, column)
    if low is None or high is None:
        return f"no value of {governed.key} would pass"
    before = governed.value
    if isinstance(before, (int, float)):
        return f"{governed.key}: {_shown(before)} -> {_shown(_rounded(high, ROUND_CEILING))} would pass"
    bounds = [min(before[0], _rounded(low, ROUND_FLOOR)), max(before[1], _rounded(high, ROUND_CEILING))]
    return f"{governed.key}: [{', '.join(map(_shown, before))}] -> [{', '.join(map(_shown, bounds))}] would pass"


def _extremes(
    governed: Governed, result: Mapping[str, Any], column: "pd.Series[Any] | None"
) -> tuple[float, float] | tuple[None, None]:
    if governed.of == EACH and column is not None:
        return float(column.min()), float(column.max())
    if governed.of == MEAN and column is not None:
        return float(column.mean()), float(column.mean())
    observed = result.get("observed_value")
    return (None, None) if observed is None else (observed - governed.offset, observed - governed.offset)


def _rounded(value: float, direction: str) -> float:
    """`value` with four digits, rounded outwards so that it still passes."""
    exact = Decimal(repr(float(value)))
    return float(exact.quantize(Decimal(1).scaleb(exact.adjusted() - _DIGITS + 1), rounding=direction)) if exact else 0.0


def _shown(value: float) -> str:
    return f"{value:.10g}"
