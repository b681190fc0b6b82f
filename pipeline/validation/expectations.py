"""The Great Expectations suites of the data, over one row per image. The only module that imports great_expectations."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import great_expectations as gx
import pandas as pd
from great_expectations import expectations as gxe
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.base import ProgressBarsConfig
from scipy.stats import binom, chi2

from pipeline.core import files
from pipeline.core.environment import environment
from pipeline.core.params import ValidateParams
from pipeline.core.sections import Bounds
from pipeline.validation import data_docs

_EXTRA = "extra-"
_SMALLEST_SHARE = 1e-9
_NONE = "none"
_ROUNDING = 1e-12  # of a share, so that exactly as many images as the bound pass
_EXAMPLES = 3  # images that an error line names
_FALSE_ALARMS = 0.001  # the probability that the sampling tolerance allows


class Outcome(NamedTuple):
    """The result of one expectation; `expected` and `observed` are texts for people."""

    suite: str
    expectation: str
    expected: str
    observed: str
    success: bool

    @property
    def subject(self) -> str:
        """The split or the extra data set, in words."""
        return _subject(self.suite)


def extra_name(dataset: str) -> str:
    """The name of the suite and of the table of an extra data set."""
    return f"{_EXTRA}{dataset}"


def _subject(suite: str) -> str:
    return f"extra {suite.removeprefix(_EXTRA)}" if suite.startswith(_EXTRA) else f"{suite} split"


def suite(
    split: str, rows: int, other: Sequence[float], classes: Sequence[str], params: ValidateParams, added: int = 0
) -> list[Any]:
    """The expectations of the `train` or `test` split.

    Args:
        rows: the number of images.
        other: the class shares of the other split.
        added: the number of `rows` that come from extra data sets. The bounds on rows are for the base alone, so that they
            detect a truncated base and need no change for an extra data set.
    """
    labels = list(range(len(classes)))
    low, high = getattr(params.rows, split)
    expected_rows = _range(low, high)
    expectations = [
        gxe.ExpectTableRowCountToBeBetween(
            min_value=low + added,
            max_value=high + added,
            **_words("rows", f"{expected_rows} and {_number(added)} extra" if added else expected_rows),
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="label", value_set=labels, **_words("label of each image", f"0 to {labels[-1]}")
        ),
        gxe.ExpectColumnDistinctValuesToContainSet(
            column="label", value_set=labels, **_words("labels in use", f"each of 0 to {labels[-1]}")
        ),
        _diverging("label", "KL divergence of the classes from the other split's", other, params.class_divergence),
        _between(gxe.ExpectColumnValuesToBeBetween, "pixel minimum of each image", params.pixel_minimum, column="minimum"),
        _between(gxe.ExpectColumnValuesToBeBetween, "pixel maximum of each image", params.pixel_maximum, column="maximum"),
        _between(gxe.ExpectColumnValuesToBeBetween, "ink fraction of each image", params.ink_fraction, column="ink"),
        *_no_blank_images(params),
        _between(gxe.ExpectColumnMeanToBeBetween, "mean intensity", params.mean_intensity, column="mean"),
        _duplicates(params),
        _flagged("conflicting_label", "conflicting labels", params.conflicting_labels),
        _label_issues(rows, params),
    ]
    if split == "train":
        expectations.append(_flagged("leaked", "leaked test images", params.leaked))
    return expectations + [
        _between(gxe.ExpectColumnMeanToBeBetween, f"share of class {name}", params.class_share, column=f"is_{label}")
        for label, name in enumerate(classes)
    ]


def _no_blank_images(params: ValidateParams) -> list[Any]:
    """No image is black all over, unless the bounds on ink allow it."""
    if params.ink_fraction[0] == 0:
        return []
    return [
        gxe.ExpectColumnValuesToBeBetween(column="ink", min_value=0, strict_min=True, **_words("blank images", _NONE, True))
    ]


def extra_suite(
    rows: tuple[int, int], classes: Sequence[float], intensities: Sequence[float], params: ValidateParams
) -> list[Any]:
    """The expectations of an extra data set by itself; those of the training split apply to it too.

    Args:
        rows: the number of images in the base, and in the extra data set.
        classes: the class shares of the base.
        intensities: the shares of the base in each `intensity_band`.
    """
    return [
        _duplicates(params),
        _label_issues(rows[1], params),
        _diverging("label", "KL divergence of the classes from the base's", classes, params.extra.class_divergence, rows),
        _diverging(
            "intensity_band",
            "KL divergence of the mean intensities from the base's",
            intensities,
            params.extra.intensity_divergence,
            rows,
        ),
    ]


def _diverging(column: str, name: str, other: Sequence[float], bound: float, rows: tuple[int, int] | None = None) -> Any:
    """Bound the divergence of the values 0, 1 ... from the shares `other`, plus a sampling tolerance if `rows` are given."""
    # A share of 0 would make the divergence infinite. Labels outside the classes would leave the sum of the shares below 1,
    # which Great Expectations refuses.
    shares = [max(share, _SMALLEST_SHARE) for share in other]
    tolerance = divergence_tolerance(len(shares), rows) if rows else 0
    expected = _at_most(bound, tolerance) if rows else _at_most(bound)
    return gxe.ExpectColumnKLDivergenceToBeLessThan(
        column=column,
        partition_object={"values": list(range(len(shares))), "weights": [share / sum(shares) for share in shares]},
        threshold=bound + tolerance,
        **_words(name, expected),
    )


def _at_most(bound: float, tolerance: float | None = None) -> str:
    text = f"at most {_number(bound)}"
    return text if tolerance is None else f"{text}, plus {_number(tolerance)} sampling tolerance"


def _duplicates(params: ValidateParams) -> Any:
    return gxe.ExpectColumnMeanToBeBetween(
        column="duplicate",
        max_value=params.duplicates,
        **_words("share of duplicate images", _at_most(params.duplicates)),
    )


def _label_issues(rows: int, params: ValidateParams) -> Any:
    allowed = max_count(params.label_issues, rows) / rows
    return _flagged("label_issue", "label issues", allowed, _at_most(params.label_issues, allowed - params.label_issues))


def _flagged(column: str, name: str, bound: float, expected: str | None = None) -> Any:
    """Bound the share of images flagged in `column`."""
    words = expected or (_at_most(bound) if bound else _NONE)
    mostly = max(0.0, 1 - bound - _ROUNDING)
    return gxe.ExpectColumnValuesToBeInSet(column=column, value_set=[False], mostly=mostly, **_words(name, words, True))


def _words(name: str, expected: str, flag: bool = False) -> dict[str, Any]:
    """The description in Data Docs, and its two halves for the report and the error lines.

    Args:
        flag: the column is a flag, so that its value is not shown for an image that breaks the expectation.
    """
    return {"description": f"{name}: {expected}", "meta": {"name": name, "expected": expected, "flag": flag}}


def _between(kind: Any, name: str, bounds: Bounds, **options: Any) -> Any:
    low, high = bounds
    return kind(min_value=low, max_value=high, **options, **_words(name, _range(low, high)))


def _range(low: float, high: float) -> str:
    return _number(low) if low == high else f"{_number(low)} to {_number(high)}"


def check(tables: Mapping[str, pd.DataFrame], suites: Mapping[str, list[Any]], run: str, docs: Path) -> list[Outcome]:
    """Run each suite on the table of the same name, and write the Data Docs to the folder `docs`.

    Args:
        run: the name of the validation in the Data Docs.
    """
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("data")
    results: dict[str, Any] = {}
    with files.replacing_folder(docs) as folder:
        for site in context.get_site_names():
            context.delete_data_docs_site(site)
        context.add_data_docs_site(data_docs.SITE, data_docs.site(str(folder.absolute())))
        for name, table in tables.items():
            definition = context.validation_definitions.add(
                gx.ValidationDefinition(
                    name=name,
                    data=source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all"),
                    suite=context.suites.add(gx.ExpectationSuite(name, expectations=suites[name])),
                )
            )
            checkpoint = context.checkpoints.add(
                gx.Checkpoint(name=name, validation_definitions=[definition], result_format={"result_format": "SUMMARY"})
            )
            checked = checkpoint.run(
                batch_parameters={"dataframe": table}, run_id=RunIdentifier(run_name=run, run_time=data_docs.EPOCH)
            )
            (results[name],) = checked.run_results.values()
        with data_docs.whole(), environment(data_docs.UTC):
            context.build_data_docs()
        data_docs.finish(folder, _subject)
    return [_outcome(name, result) for name, checked in results.items() for result in checked.results]


def _outcome(suite: str, result: Any) -> Outcome:
    meta = result.expectation_config.meta
    return Outcome(suite, meta["name"], meta["expected"], _observed(result, meta["flag"]), bool(result.success))


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
    return "infinite" if found["observed_value"] is None else _number(found["observed_value"])


def _images(found: Mapping[str, Any], with_values: bool) -> str:
    """The number of images that break an expectation, with examples: `2 of 3,000 images outside: #17 (0), #40 (12)`."""
    count = f"{found['unexpected_count']:,} of {found['element_count']:,} images"
    indices, values = found["partial_unexpected_index_list"], found["partial_unexpected_list"]
    examples = [
        f"#{index} ({_number(value)})" if with_values else f"#{index}"
        for index, value in zip(indices[:_EXAMPLES], values, strict=False)
    ]
    if not examples:
        return count
    more = ["…"] if found["unexpected_count"] > len(examples) else []
    return f"{count}{' outside' if with_values else ''}: {', '.join(examples + more)}"


def _number(value: float) -> str:
    """A number for people; five digits are enough, and the same on every machine."""
    return f"{int(value):,}" if value == int(value) else f"{value:.5g}"


def divergence_tolerance(categories: int, rows: tuple[int, int]) -> float:
    """The KL divergence, in nats, that two samples of one distribution exceed in one of a thousand cases.

    By Wilks' theorem, twice the number of samples times the divergence is chi-squared (S. S. Wilks, The Large-Sample
    Distribution of the Likelihood Ratio, 1938). For two samples, half their harmonic mean is the number.
    """
    first, second = rows
    return float(chi2.ppf(1 - _FALSE_ALARMS, categories - 1)) / 2 * (1 / first + 1 / second)


def max_count(share: float, rows: int) -> int:
    """The number of `rows` flagged, each with probability `share`, that is exceeded in one of a thousand cases."""
    return int(binom.ppf(1 - _FALSE_ALARMS, rows, share))
