"""Stage validate: one row an image -> Great Expectations -> report, and the gate before training."""

import hashlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.core import console, datasets, files
from pipeline.core.datasets import Split
from pipeline.core.errors import InvalidDataError
from pipeline.core.params import Params
from pipeline.core.paths import Paths

_CHUNK = 10_000  # images summarised at a time: memory does not grow with the data's size


def summarise(split: Split, classes: int) -> pd.DataFrame:
    """One row an image: what the expectations look at instead of pixels.

    Returns:
        Columns label; ink, the share of pixels above 0; mean, minimum and maximum, of pixels of 0 to 255; content_hash;
        repeated, whether an earlier image is the same; and is_0, is_1 ... for each of `classes`.
    """
    chunks = [_summarise(split.images[start : start + _CHUNK]) for start in range(0, len(split.images), _CHUNK)]
    table = pd.concat(chunks, ignore_index=True)
    table.insert(0, "label", np.asarray(split.labels, dtype=np.int64))
    table["repeated"] = table["content_hash"].duplicated()
    for label in range(classes):
        table[f"is_{label}"] = (table["label"] == label).astype(np.float64)
    return table


def _summarise(images: datasets.Pixels) -> pd.DataFrame:
    flat = np.ascontiguousarray(images).reshape(len(images), -1)
    return pd.DataFrame(
        {
            "ink": np.count_nonzero(flat, axis=1) / flat.shape[1],
            "mean": flat.mean(axis=1),
            "minimum": flat.min(axis=1).astype(np.int64),
            "maximum": flat.max(axis=1).astype(np.int64),
            "content_hash": [hashlib.blake2b(row.data, digest_size=16).hexdigest() for row in flat],
        }
    )


def class_shares(labels: datasets.Pixels, classes: int) -> list[float]:
    """The share of each label of 0 to `classes` - 1 among `labels`."""
    counts: list[float] = (np.bincount(labels, minlength=classes)[:classes] / len(labels)).tolist()
    return counts


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
    return f"{outcome.suite} split, {outcome.expectation}: expected {outcome.expected}, found {outcome.observed}"


def run(params: Params, paths: Paths) -> str:
    from pipeline.core import expectations  # Great Expectations takes seconds: after the parameters have proved right

    manifest, classes = files.read_json(paths.manifest), params.fetch.classes
    splits = {name: datasets.load(paths, name) for name in ("train", "test")}
    tables = {name: summarise(split, len(classes)) for name, split in splits.items()}
    tables["train"]["in_test"] = tables["train"]["content_hash"].isin(tables["test"]["content_hash"])
    shares = {name: class_shares(split.labels, len(classes)) for name, split in splits.items()}
    suites = {
        name: expectations.suite(name, shares[other], classes, params.validate_)
        for name, other in (("train", "test"), ("test", "train"))
    }
    outcomes = expectations.check(tables, suites, f"data-{manifest['fingerprint'][:12]}", paths.data_docs)
    content = report(manifest["fingerprint"], tables, outcomes, classes)
    files.write_json(paths.report, content)
    if content["broken"]:
        raise InvalidDataError(content["broken"], paths.report, paths.data_docs / "index.html")
    return f"{len(outcomes)} expectations met on {sum(map(len, tables.values())):,} images"


if __name__ == "__main__":
    sys.exit(console.run_stage("validate", run))
