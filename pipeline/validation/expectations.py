"""What the data must be: Great Expectations suites over one row an image. The only importer of great_expectations."""

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
from pipeline.core.params import Bounds, ValidateParams
from pipeline.validation import data_docs

_EXTRA = "extra-"
_SMALLEST_SHARE = 1e-9
_NONE = "none"  # images, of what must not be
_ROUNDING = 1e-12  # of a share: as many images as the bound are accepted
_EXAMPLES = 3  # images that an error line names


_RARELY = 0.001


class Outcome(NamedTuple):
    """One expectation and what came of it: `observed` and `expected` are for a person to read."""

    suite: str
    expectation: str
    expected: str
    observed: str
    success: bool

    @property
    def subject(self) -> str:
        """What the expectation is about, in words."""
        return _subject(self.suite)


def extra_name(part: str) -> str:
    """The name of the suite, and of the table, of a further set."""
    return f"{_EXTRA}{part}"


def _subject(suite: str) -> str:
    return f"extra {suite.removeprefix(_EXTRA)}" if suite.startswith(_EXTRA) else f"{suite} split"


def suite(
    split: str, rows: int, other: Sequence[float], classes: Sequence[str], params: ValidateParams, added: int = 0
) -> list[Any]:
    """The expectations of the `train` or `test` split.

    Args:
        rows: of the split.
        other: the class shares of the other split.
        added: how many of `rows` are of further sets. They do not count for the bounds on rows, which are to tell a base that
            is cut short, and that is not to be raised with each further set.
    """
    labels = list(range(len(classes)))
    low, high = getattr(params.rows, split)
    wanted = f"{_figure(low)} to {_figure(high)}" if low < high else _figure(low)
    expectations = [
        gxe.ExpectTableRowCountToBeBetween(
            min_value=low + added,
            max_value=high + added,
            **_words("rows", f"{wanted} and {_figure(added)} extra" if added else wanted),
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
        gxe.ExpectColumnValuesToBeBetween(column="ink", min_value=0, strict_min=True, **_words("blank images", _NONE, True)),
        _between(gxe.ExpectColumnMeanToBeBetween, "mean intensity", params.mean_intensity, column="mean"),
        _repeated(params),
        _flagged("conflicting", "images that repeat an earlier one under another label", params.conflicting_labels),
        _doubtful(rows, params),
    ]
    if split == "train":
        expectations.append(_flagged("in_test", "leaked test images", 0))
    return expectations + [
        _between(gxe.ExpectColumnMeanToBeBetween, f"share of class {name}", params.class_share, column=f"is_{label}")
        for label, name in enumerate(classes)
    ]


def extra_suite(
    rows: tuple[int, int], classes: Sequence[float], intensities: Sequence[float], params: ValidateParams
) -> list[Any]:
    """The expectations of a further set, beside those that it has to meet as a part of the training split.

    Args:
        rows: of the base, and of the set.
        classes: the class shares of the base.
        intensities: the shares of the base in the bands of mean intensity that the column `band` numbers.
    """
    return [
        _repeated(params),
        _doubtful(rows[1], params),
        _diverging("label", "KL divergence of the classes from the base's", classes, params.extra.class_divergence, rows),
        _diverging(
            "band",
            "KL divergence of the mean intensities from the base's",
            intensities,
            params.extra.intensity_divergence,
            rows,
        ),
    ]


def _diverging(column: str, name: str, other: Sequence[float], bound: float, rows: tuple[int, int] | None = None) -> Any:
    """The distribution of the values 0, 1 ... is as the shares `other`, within the bound, and chance where `rows` are few."""
    # A value that the other lacks would make the divergence infinite whatever the bound; labels that are no class would
    # leave the shares short of 1, which Great Expectations refuses.
    shares = [max(share, _SMALLEST_SHARE) for share in other]
    allowed = divergence(len(shares), rows) if rows else 0
    expected = f"at most {_figure(bound)}" + (f", and {_figure(allowed)} for chance" if rows else "")
    return gxe.ExpectColumnKLDivergenceToBeLessThan(
        column=column,
        partition_object={"values": list(range(len(shares))), "weights": [share / sum(shares) for share in shares]},
        threshold=bound + allowed,
        **_words(name, expected),
    )


def _repeated(params: ValidateParams) -> Any:
    return gxe.ExpectColumnMeanToBeBetween(
        column="repeated",
        max_value=params.duplicates,
        **_words("share of images that repeat an earlier one", f"at most {_figure(params.duplicates)}"),
    )


def _doubtful(rows: int, params: ValidateParams) -> Any:
    allowed, name = count(params.label_issues, rows) / rows, "images surely of another class than their label"
    more = f", and {_figure(allowed - params.label_issues)} for chance"
    return _flagged("doubtful", name, allowed, f"at most {_figure(params.label_issues)}{more}")


def _flagged(column: str, name: str, bound: float, expected: str | None = None) -> Any:
    """At most the share `bound` of the images is flagged in `column`."""
    words = expected or (f"at most {_figure(bound)}" if bound else _NONE)
    mostly = max(0.0, 1 - bound - _ROUNDING)
    return gxe.ExpectColumnValuesToBeInSet(column=column, value_set=[False], mostly=mostly, **_words(name, words, True))


def _words(name: str, expected: str, flag: bool = False) -> dict[str, Any]:
    """The description that Data Docs show, the two halves of it that the report and the error lines show, and whether an
    image that breaks it has no value worth showing."""
    return {"description": f"{name}: {expected}", "meta": {"name": name, "expected": expected, "flag": flag}}


def _between(kind: Any, name: str, bounds: Bounds, **options: Any) -> Any:
    low, high = bounds
    expected = _figure(low) if low == high else f"{_figure(low)} to {_figure(high)}"
    return kind(min_value=low, max_value=high, **options, **_words(name, expected))


def check(tables: Mapping[str, pd.DataFrame], suites: Mapping[str, list[Any]], run: str, docs: Path) -> list[Outcome]:
    """Run each suite on the table of the same name, and write the Data Docs to the folder `docs`.

    Args:
        run: names the validation in the Data Docs.
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
        with data_docs.whole():
            context.build_data_docs()
        data_docs.finish(folder, _subject)
    return [_outcome(name, result) for name, checked in results.items() for result in checked.results]


def _outcome(suite: str, result: Any) -> Outcome:
    meta = result.expectation_config.meta
    return Outcome(suite, meta["name"], meta["expected"], _observed(result, meta["flag"]), bool(result.success))


def _observed(result: Any, flag: bool) -> str:
    # Flat where all went well, and keyed by the metrics that failed where not.
    for failure in result.exception_info.values():
        if isinstance(failure, dict):
            return f"a check that could not run: {failure['exception_message']}"
    found = result.result
    if "element_count" in found:
        return _images(found, with_values=not flag)
    if "missing_count" in found:
        return ", ".join(f"no {label}" for label in found["partial_missing_list"]) or "each"
    return "infinite" if found["observed_value"] is None else _figure(found["observed_value"])


def _images(found: Mapping[str, Any], with_values: bool) -> str:
    """How many images broke an expectation of each, and which: `2 of 3,000 images outside: #17 (0), #40 (12)`."""
    count = f"{found['unexpected_count']:,} of {found['element_count']:,} images"
    indices, values = found["partial_unexpected_index_list"], found["partial_unexpected_list"]
    examples = [
        f"#{index} ({_figure(value)})" if with_values else f"#{index}"
        for index, value in zip(indices[:_EXAMPLES], values, strict=False)
    ]
    if not examples:
        return count
    more = ["…"] if found["unexpected_count"] > len(examples) else []
    return f"{count}{' outside' if with_values else ''}: {', '.join(examples + more)}"


def _figure(value: float) -> str:
    """A number as a person reads it; five digits tell apart what matters and are the same on every machine."""
    return f"{int(value):,}" if value == int(value) else f"{value:.5g}"


def divergence(categories: int, rows: tuple[int, int]) -> float:
    """The KL divergence, in nats, that two samples of one distribution exceed in a case of a thousand.

    By Wilks' theorem twice the number of samples times the divergence is distributed as chi-squared (S. S. Wilks 1938, The
    Large-Sample Distribution of the Likelihood Ratio); of two samples, half their harmonic mean counts.
    """
    first, second = rows
    return float(chi2.ppf(1 - _RARELY, categories - 1)) / 2 * (1 / first + 1 / second)


def count(share: float, rows: int) -> int:
    """How many of `rows` are exceeded in a case of a thousand by what happens to each with the probability `share`."""
    return int(binom.ppf(1 - _RARELY, rows, share))
