"""Check the data with Great Expectations and stop the pipeline if an expectation fails.

Write data/validation/report.html, report.json and the Data Docs pages, even if the check fails.

Example:
    python -m pipeline.validate
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.core import console, files
from pipeline.core.errors import PipelineError
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.data.datasets import Segment, Split
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


class Checked(NamedTuple):
    """What is checked together, by the name of its suite: images and labels, one row per image, and the expectations."""

    data: dict[str, Split]
    tables: dict[str, pd.DataFrame]
    suites: dict[str, list[Any]]


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
    names = ("train", "test", *([datasets.RECENT] if datasets.RECENT_FILES[0] in manifest["files"] else []))
    splits = {name: datasets.load(paths, name) for name in names}
    data, tables, suites = divide(splits, manifest, params)
    outcomes = expectations.check(tables, suites, f"data-{manifest['fingerprint'][:12]}", paths.data_docs)
    content = report(manifest["fingerprint"], tables, outcomes, classes)
    files.write_json(paths.report, content)
    files.write_text(paths.report_page, report_page.render(manifest, outcomes, data, classes))
    if content["broken"]:
        base = slice(datasets.segments(manifest, "train")[0].rows)
        hints = _hints({**data, "train": _taken(splits["train"], base)}, len(classes))
        raise InvalidDataError(content["broken"], paths.report, paths.report_page, hints)
    return f"{len(outcomes)} expectations met on {sum(len(split.labels) for split in splits.values()):,} images"


def divide(splits: Mapping[str, Split], manifest: Mapping[str, Any], params: Params) -> Checked:
    """Divide the data into what is checked together: the lasting training images, the test split, and each extra data set."""
    from pipeline.validation import expectations

    classes, recent = len(params.fetch.classes), datasets.segments(manifest, datasets.RECENT)
    tables = {name: summarise(split, classes) for name, split in splits.items()}
    base, *extra = datasets.segments(manifest, "train")
    rows = datasets.slices([each.rows for each in (base, *extra)])
    of_recent = _of_recent((base, *extra), rows, {segment.name for segment in recent})
    compare(splits, tables, base.rows, classes, params.validate_.near_duplicate_distance, of_recent)
    class_mix = class_shares(splits["train"].labels[: base.rows], classes)
    intensities = add_intensity_bands(tables["train"], base.rows)
    tables["train"] = tables["train"].set_axis(row_names(base, extra))
    lasting = ~of_recent if of_recent.any() else slice(None)  # a slice copies nothing
    data = {"train": _taken(splits["train"], lasting), "test": splits["test"]}
    checked = {"train": tables["train"][lasting], "test": tables["test"]}
    suites = _split_suites(data, base.rows, params)
    for segment, part in zip(extra, rows[1:], strict=True):
        name = expectations.extra_name(segment.name)
        data[name], checked[name] = _taken(splits["train"], part), tables["train"][part].reset_index(drop=True)
        suites[name] = expectations.extra_suite((base.rows, max(1, segment.rows)), class_mix, intensities, params.validate_)
    for segment, part in zip(recent, datasets.slices([each.rows for each in recent]), strict=True):
        name = expectations.extra_name(segment.name)
        if segment.rows:
            data[name] = _joined(data[name], _taken(splits[datasets.RECENT], part))
            checked[name] = pd.concat([checked[name], tables[datasets.RECENT][part].assign(leaked=False)], ignore_index=True)
        suites[name] = expectations.recent_suite(len(checked[name]), classes, params.validate_)
    return Checked(data, checked, suites)


def _of_recent(segments: Sequence[Segment], rows: Sequence[slice], recent: set[str]) -> npt.NDArray[np.bool_]:
    """Which training images are of the data sets named in `recent`."""
    marked = np.zeros(rows[-1].stop, bool)
    for segment, part in zip(segments, rows, strict=True):
        marked[part] = segment.name in recent
    return marked


def _taken(split: Split, rows: Any) -> Split:
    return Split(split.images[rows], split.labels[rows])


def _joined(one: Split, other: Split) -> Split:
    return Split(np.concatenate([one.images, other.images]), np.concatenate([one.labels, other.labels]))


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
