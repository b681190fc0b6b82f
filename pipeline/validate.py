"""Check the data with Great Expectations and stop the pipeline if an expectation fails.

Write data/validation/report.html, report.json and the Data Docs pages, even if the check fails.

Example:
    python -m pipeline.validate
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.core import console, files
from pipeline.core.errors import PipelineError
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.data.datasets import Split
from pipeline.validation import report_page
from pipeline.validation.image_table import add_intensity_bands, class_shares, compare, row_names, summarise
from pipeline.validation.orientation import looks_transposed


class InvalidDataError(PipelineError):
    """The data broke expectations. The reports and the Data Docs are still written."""

    def __init__(self, failures: Sequence[str], report: Path, page: Path, hints: Sequence[str] = ()) -> None:
        lines = "".join(f"\n  {line}" for line in (*failures, *hints))
        noun = "expectation" if len(failures) == 1 else "expectations"
        super().__init__(
            f"the data broke {len(failures)} {noun}:{lines}\n"
            f"Training does not start. See {page}, then fix the data, or the parameter in params.yaml that a line names "
            f"(numbers: {report})."
        )


def report(
    fingerprint: str, tables: dict[str, pd.DataFrame], outcomes: Sequence[Any], classes: Sequence[str]
) -> dict[str, Any]:
    """The content of data/validation/report.json; `fingerprint` identifies the arrays that it describes."""
    broken = [describe(outcome) for outcome in outcomes if not outcome.success]
    return {
        "success": not broken,
        "fingerprint": fingerprint,
        "expectations": {"met": len(outcomes) - len(broken), "broken": len(broken)},
        **{name: _metrics(table, classes) for name, table in tables.items()},
        "outcomes": {f"{outcome.suite}: {outcome.expectation}": outcome.observed for outcome in outcomes},
        "broken": broken,
    }


def _metrics(table: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    return {
        "rows": len(table),
        "mean_intensity": round(float(table["mean"].mean()), 4),
        "ink_fraction": round(float(table["ink"].mean()), 6),
        "repeated_images": int(table["duplicate"].sum()),
        "classes": {name: int(table[f"is_{label}"].sum()) for label, name in enumerate(classes)},
    }


def describe(outcome: Any) -> str:
    found = f"{outcome.subject}, {outcome.expectation}: expected {outcome.expected}, found {outcome.observed}"
    return f"{found}; {outcome.remedy}"


def run(params: Params, paths: Paths) -> str:
    from pipeline.validation import expectations  # slow: import Great Expectations only if the parameters are valid

    manifest, classes = datasets.read_manifest(paths), params.fetch.classes
    splits = {name: datasets.load(paths, name) for name in ("train", "test")}
    base, *extra = datasets.segments(manifest, "train")
    tables = {name: summarise(split, len(classes)) for name, split in splits.items()}
    compare(splits, tables, base.rows, len(classes), params.validate_.near_duplicate_distance)
    suites = _split_suites(splits, base.rows, params)
    class_mix = class_shares(splits["train"].labels[: base.rows], len(classes))
    intensities = add_intensity_bands(tables["train"], base.rows)
    for segment, rows in zip(extra, datasets.slices([each.rows for each in (base, *extra)])[1:], strict=True):
        name = expectations.extra_name(segment.name)
        tables[name] = tables["train"][rows].reset_index(drop=True)
        suites[name] = expectations.extra_suite((base.rows, segment.rows), class_mix, intensities, params.validate_)
    tables["train"] = tables["train"].set_axis(row_names(base, extra))
    outcomes = expectations.check(tables, suites, f"data-{manifest['fingerprint'][:12]}", paths.data_docs)
    content = report(manifest["fingerprint"], tables, outcomes, classes)
    files.write_json(paths.report, content)
    parts = _segments(splits["train"], (base, *extra)) | {"test": splits["test"]}
    data = splits | parts | splits  # the whole training split, as in its table
    files.write_text(paths.report_page, report_page.render(manifest, outcomes, data, classes))
    if content["broken"]:
        hints = _hints(parts, len(classes))
        raise InvalidDataError(content["broken"], paths.report, paths.report_page, hints)
    return f"{len(outcomes)} expectations met on {sum(len(split.labels) for split in splits.values()):,} images"


def _segments(train: Split, segments: Sequence[Any]) -> dict[str, Split]:
    """The base of the training split as "train", and each extra set by its name."""
    from pipeline.validation import expectations

    names = ["train", *(expectations.extra_name(each.name) for each in segments[1:])]
    parts = datasets.slices([each.rows for each in segments])
    return {name: Split(train.images[part], train.labels[part]) for name, part in zip(names, parts, strict=True)}


def _hints(parts: Mapping[str, Split], classes: int) -> list[str]:
    """What may be the cause, a line each."""
    return [
        f"{name}: looks transposed: with rows and columns swapped, the images agree with their labels (EMNIST stores them so)"
        for name, split in parts.items()
        if name != "train" and looks_transposed(parts["train"], split, classes)
    ]


def _split_suites(splits: Mapping[str, Split], base: int, params: Params) -> dict[str, list[Any]]:
    from pipeline.validation import expectations

    classes = params.fetch.classes
    shares = {name: class_shares(split.labels, len(classes)) for name, split in splits.items()}
    rows = {name: len(split.labels) for name, split in splits.items()}
    added = rows["train"] - base
    return {
        "train": expectations.suite("train", rows["train"], shares["test"], classes, params.validate_, added),
        "test": expectations.suite("test", rows["test"], shares["train"], classes, params.validate_),
    }


if __name__ == "__main__":
    sys.exit(console.run_stage("validate", run, __doc__))
