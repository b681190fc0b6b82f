"""The Great Expectations suites of the data, over one row per image. The only module that imports great_expectations."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
from pipeline.validation.outcomes import EACH, EXTRA, MEAN, Governed, Outcome, number, outcome, subject

_SMALLEST_SHARE = 1e-9
_NONE = "none"
_ROUNDING = 1e-12  # of a share, so that exactly as many images as the bound pass
_FALSE_ALARMS = 0.001  # the probability that the sampling tolerance allows


def extra_name(dataset: str) -> str:
    """The name of the suite and of the table of an extra data set."""
    return f"{EXTRA}{dataset}"


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
    expectations = [
        _rows(split, getattr(params.rows, split), added),
        *_labels(len(classes)),
        _diverging(
            "label",
            "KL divergence of the classes from the other split's",
            other,
            Governed("validate.class_divergence", params.class_divergence),
        ),
        _each("pixel minimum of each image", "pixel_minimum", params.pixel_minimum, column="minimum"),
        _each("pixel maximum of each image", "pixel_maximum", params.pixel_maximum, column="maximum"),
        _each("ink fraction of each image", "ink_fraction", params.ink_fraction, column="ink"),
        *_no_blank_images(params),
        _mean("mean intensity", "mean_intensity", params.mean_intensity, column="mean"),
        _duplicates(params),
        _flagged("conflicting_label", "conflicting labels", _share("conflicting_labels", params.conflicting_labels)),
        _label_issues(rows, params),
    ]
    if split == "train":
        expectations.append(_flagged("leaked", "leaked test images", _share("leaked", params.leaked)))
    return expectations + [
        _mean(f"share of class {name}", "class_share", params.class_share, column=f"is_{label}")
        for label, name in enumerate(classes)
    ]


def _rows(split: str, bounds: Bounds, added: int) -> Any:
    low, high = bounds
    expected = f"{_range(low, high)} and {number(added)} extra" if added else _range(low, high)
    words = _words("rows", expected, Governed(f"validate.rows.{split}", bounds, offset=added))
    return gxe.ExpectTableRowCountToBeBetween(min_value=low + added, max_value=high + added, **words)


def _labels(classes: int) -> list[Any]:
    """Every image has a label of a class, and every class has images."""
    labels = list(range(classes))
    known, all_of_them = f"0 to {labels[-1]}", f"each of 0 to {labels[-1]}"
    return [
        gxe.ExpectColumnValuesToBeInSet(column="label", value_set=labels, **_words("label of each image", known, None)),
        gxe.ExpectColumnDistinctValuesToContainSet(
            column="label", value_set=labels, **_words("labels in use", all_of_them, None)
        ),
    ]


def _no_blank_images(params: ValidateParams) -> list[Any]:
    """No image is black all over, unless the bounds on ink allow it."""
    if params.ink_fraction[0] == 0:
        return []
    return [
        gxe.ExpectColumnValuesToBeBetween(
            column="ink",
            min_value=0,
            strict_min=True,
            **_words("blank images", _NONE, Governed("validate.ink_fraction", params.ink_fraction, EACH), flag=True),
        )
    ]


def recent_suite(rows: int, classes: int, params: ValidateParams) -> list[Any]:
    """The expectations of a recent data set. Its distributions may differ from the base's: that is what it is for."""
    recent = params.recent
    return [
        _labels(classes)[0],
        _each("pixel minimum of each image", "pixel_minimum", params.pixel_minimum, column="minimum"),
        _each("pixel maximum of each image", "pixel_maximum", params.pixel_maximum, column="maximum"),
        *_no_blank_images(params),
        _duplicates(params),
        _flagged("conflicting_label", "conflicting labels", _share("conflicting_labels", params.conflicting_labels)),
        _flagged("leaked", "leaked test images", _share("leaked", params.leaked)),
        _flagged_share("label_issue", "label issues", "recent.label_issues", recent.label_issues, rows),
        _flagged_share("contradicted", "labels that the base contradicts", "recent.contradicted", recent.contradicted, rows),
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
        _diverging(
            "label",
            "KL divergence of the classes from the base's",
            classes,
            Governed("validate.extra.class_divergence", params.extra.class_divergence),
            rows,
        ),
        _diverging(
            "intensity_band",
            "KL divergence of the mean intensities from the base's",
            intensities,
            Governed("validate.extra.intensity_divergence", params.extra.intensity_divergence),
            rows,
        ),
    ]


def _diverging(column: str, name: str, other: Sequence[float], governed: Governed, rows: tuple[int, int] | None = None) -> Any:
    """Bound the divergence of the values 0, 1 ... from the shares `other`, plus a sampling tolerance if `rows` are given."""
    bound = float(governed.value)  # type: ignore[arg-type]  # a maximum
    # A share of 0 would make the divergence infinite. Labels outside the classes would leave the sum of the shares below 1,
    # which Great Expectations refuses.
    shares = [max(share, _SMALLEST_SHARE) for share in other]
    tolerance = divergence_tolerance(len(shares), rows) if rows else 0
    expected = _at_most(bound, tolerance) if rows else _at_most(bound)
    return gxe.ExpectColumnKLDivergenceToBeLessThan(
        column=column,
        partition_object={"values": list(range(len(shares))), "weights": [share / sum(shares) for share in shares]},
        threshold=bound + tolerance,
        **_words(name, expected, governed._replace(offset=tolerance)),
    )


def _at_most(bound: float, tolerance: float | None = None) -> str:
    text = f"at most {number(bound)}"
    return text if tolerance is None else f"{text}, plus {number(tolerance)} sampling tolerance"


def _duplicates(params: ValidateParams) -> Any:
    return gxe.ExpectColumnMeanToBeBetween(
        column="duplicate",
        max_value=params.duplicates,
        **_words("share of duplicate images", _at_most(params.duplicates), _share("duplicates", params.duplicates)),
    )


def _label_issues(rows: int, params: ValidateParams) -> Any:
    return _flagged_share("label_issue", "label issues", "label_issues", params.label_issues, rows)


def _flagged_share(column: str, name: str, key: str, bound: float, rows: int) -> Any:
    """Bound the share of images flagged in `column` among `rows`, with a sampling tolerance."""
    allowed = max_count(bound, rows) / rows
    return _flagged(column, name, _share(key, bound), allowed, _at_most(bound, allowed - bound))


def _share(key: str, bound: float) -> Governed:
    """A maximum share of images."""
    return Governed(f"validate.{key}", bound, MEAN)


def _flagged(column: str, name: str, governed: Governed, allowed: float | None = None, expected: str | None = None) -> Any:
    """Bound the share of images flagged in `column`, by the parameter or by `allowed`."""
    bound = float(governed.value) if allowed is None else allowed  # type: ignore[arg-type]  # a maximum
    words = expected or (_at_most(bound) if bound else _NONE)
    mostly = max(0.0, 1 - bound - _ROUNDING)
    return gxe.ExpectColumnValuesToBeInSet(
        column=column, value_set=[False], mostly=mostly, **_words(name, words, governed, flag=True)
    )


def _words(name: str, expected: str, governed: Governed | None, flag: bool = False) -> dict[str, Any]:
    """The description in Data Docs, its two halves for the report and the error lines, and the parameter that governs it.

    Args:
        flag: the column is a flag, so that its value is not shown for an image that breaks the expectation.
    """
    meta = {"name": name, "expected": expected, "flag": flag, "governed": governed and list(governed)}
    return {"description": f"{name}: {expected}", "meta": meta}


def _each(name: str, key: str, bounds: Bounds, column: str) -> Any:
    words = _words(name, _range(*bounds), Governed(f"validate.{key}", bounds, EACH))
    return gxe.ExpectColumnValuesToBeBetween(min_value=bounds[0], max_value=bounds[1], column=column, **words)


def _mean(name: str, key: str, bounds: Bounds, column: str) -> Any:
    words = _words(name, _range(*bounds), Governed(f"validate.{key}", bounds, MEAN))
    return gxe.ExpectColumnMeanToBeBetween(min_value=bounds[0], max_value=bounds[1], column=column, **words)


def _range(low: float, high: float) -> str:
    return number(low) if low == high else f"{number(low)} to {number(high)}"


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
        data_docs.finish(folder, subject)
    return [outcome(name, result, tables[name]) for name, checked in results.items() for result in checked.results]


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
