"""Check the data with Great Expectations and stop the pipeline if an expectation fails.

Write data/validation/report.json and the Data Docs pages, even if the check fails.

Example:
    python -m pipeline.validate
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.core import console, files
from pipeline.core.errors import PipelineError
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.validation.image_table import band, class_shares, compare, row_names, summarise


class InvalidDataError(PipelineError):
    """The data broke expectations; the report and the Data Docs are kept."""

    def __init__(self, failures: Sequence[str], report: Path, docs: Path) -> None:
        lines = "".join(f"\n  {failure}" for failure in failures)
        noun = "expectation" if len(failures) == 1 else "expectations"
        super().__init__(
            f"the data broke {len(failures)} {noun}:{lines}\n"
            f"Nothing is trained on it. See {docs}, mend the data or `validate:` in params.yaml ({report} keeps the figures)."
        )


def report(
    fingerprint: str, tables: dict[str, pd.DataFrame], outcomes: Sequence[Any], classes: Sequence[str]
) -> dict[str, Any]:
    """What data/validation/report.json holds. `fingerprint` ties it to the arrays that it is about."""
    broken = [describe(outcome) for outcome in outcomes if not outcome.success]
    return {
        "success": not broken,
        "fingerprint": fingerprint,
        "expectations": {"met": len(outcomes) - len(broken), "broken": len(broken)},
        **{name: _figures(table, classes) for name, table in tables.items()},
        "outcomes": {f"{outcome.suite}: {outcome.expectation}": outcome.observed for outcome in outcomes},
        "broken": broken,
    }


def _figures(table: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    return {
        "rows": len(table),
        "mean_intensity": round(float(table["mean"].mean()), 4),
        "ink_fraction": round(float(table["ink"].mean()), 6),
        "repeated_images": int(table["repeated"].sum()),
        "classes": {name: int(table[f"is_{label}"].sum()) for label, name in enumerate(classes)},
    }


def describe(outcome: Any) -> str:
    return f"{outcome.subject}, {outcome.expectation}: expected {outcome.expected}, found {outcome.observed}"


def run(params: Params, paths: Paths) -> str:
    from pipeline.validation import expectations  # Great Expectations takes seconds: after the parameters have proved right

    manifest, classes = datasets.read_manifest(paths), params.fetch.classes
    splits = {name: datasets.load(paths, name) for name in ("train", "test")}
    tables = {name: summarise(split, len(classes)) for name, split in splits.items()}
    train = tables["train"]
    base, *parts = datasets.segments(manifest, "train")
    compare(splits, tables, base.rows, len(classes), params.validate_.near_duplicate_distance)
    shares = {name: class_shares(split.labels, len(classes)) for name, split in splits.items()}
    suites = {
        "train": expectations.suite("train", len(train), shares["test"], classes, params.validate_, len(train) - base.rows),
        "test": expectations.suite("test", len(tables["test"]), shares["train"], classes, params.validate_),
    }
    class_mix, intensities = class_shares(splits["train"].labels[: base.rows], len(classes)), band(train, base.rows)
    for part, rows in zip(parts, datasets.slices([part.rows for part in (base, *parts)])[1:], strict=True):
        name, counts = expectations.extra_name(part.name), (base.rows, part.rows)
        tables[name] = train[rows].reset_index(drop=True)
        suites[name] = expectations.extra_suite(counts, class_mix, intensities, params.validate_)
    tables["train"] = train.set_axis(row_names(base, parts))
    outcomes = expectations.check(tables, suites, f"data-{manifest['fingerprint'][:12]}", paths.data_docs)
    content = report(manifest["fingerprint"], tables, outcomes, classes)
    files.write_json(paths.report, content)
    if content["broken"]:
        raise InvalidDataError(content["broken"], paths.report, paths.data_docs / "index.html")
    return f"{len(outcomes)} expectations met on {sum(len(split.labels) for split in splits.values()):,} images"


if __name__ == "__main__":
    sys.exit(console.run_stage("validate", run, __doc__))
