"""Stage validate: one row an image -> Great Expectations -> report, and the gate before training."""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.core import console, datasets, files, labels, likeness
from pipeline.core.datasets import Part, Split
from pipeline.core.errors import InvalidDataError
from pipeline.core.params import Params
from pipeline.core.paths import Paths

_BANDS = 10  # of mean intensity, each with as many images of the base
_CHUNK = 10_000  # images summarised at a time: memory does not grow with the data's size


def summarise(split: Split, classes: int) -> pd.DataFrame:
    """One row an image: what the expectations look at instead of pixels.

    Returns:
        Columns label; ink, the share of pixels above 0; mean, minimum and maximum, of pixels of 0 to 255; content_hash, of 64
        bits, by which two of a million different images are the same with probability 3e-8; repeated, whether an earlier
        image is the same; and is_0, is_1 ... for each of `classes`. Types are narrow: forty bytes an image of MNIST.
    """
    chunks = [_summarise(split.images[start : start + _CHUNK]) for start in range(0, len(split.images), _CHUNK)]
    table = pd.concat(chunks, ignore_index=True)
    table.insert(0, "label", np.asarray(split.labels))
    table["repeated"] = table["content_hash"].duplicated()
    for label in range(classes):
        table[f"is_{label}"] = (table["label"] == label).astype(np.uint8)
    return table


def _summarise(images: datasets.Pixels) -> pd.DataFrame:
    flat = np.ascontiguousarray(images).reshape(len(images), -1)
    return pd.DataFrame(
        {
            "ink": np.count_nonzero(flat, axis=1) / flat.shape[1],
            "mean": flat.mean(axis=1),
            "minimum": flat.min(axis=1),
            "maximum": flat.max(axis=1),
            "content_hash": np.frombuffer(
                b"".join(hashlib.blake2b(row.data, digest_size=8).digest() for row in flat), np.uint64
            ),
        }
    )


def compare(splits: Mapping[str, Split], tables: Mapping[str, pd.DataFrame], base: int, classes: int, radius: float) -> None:
    """Add to the summaries what images are to each other.

    `conflicting`: it repeats an earlier image under another label; `repeated` is set too where it does so but nearly.
    `in_test`, of a training image: a test image is the same, or nearly. `doubtful`: it is surely of another class than its
    label, by what the base teaches.

    Args:
        base: how many training images are no further sets.
        radius: how far apart images are at most that are nearly the same.
    """
    space = likeness.fit(splits["train"].images[:base])
    places = {name: likeness.place(split.images, space) for name, split in splits.items()}
    views = {
        name: likeness.View(splits[name].images, places[name].shape, np.flatnonzero(~table["repeated"]))
        for name, table in tables.items()
    }
    for name, table in tables.items():
        label = table["label"].to_numpy()
        table["conflicting"] = label != table.groupby("content_hash")["label"].transform("first")
        earlier, later = np.sort(likeness.twins(views[name], views[name], radius), axis=0)
        table.loc[later, "repeated"] = True
        table.loc[later[label[earlier] != label[later]], "conflicting"] = True
    train, test = tables["train"], tables["test"]
    train["in_test"] = train["content_hash"].isin(test["content_hash"])
    train.loc[likeness.twins(views["train"], views["test"], radius)[0], "in_test"] = True
    of_base, *others = [
        labels.Sample(places[name].look[rows], splits[name].labels[rows])
        for name, rows in (("train", slice(base)), ("train", slice(base, None)), ("test", slice(None)))
    ]
    doubted = labels.doubtful(of_base, others, classes)
    train["doubtful"], test["doubtful"] = np.concatenate(doubted[:2]), doubted[2]


def class_shares(given: datasets.Pixels, classes: int) -> list[float]:
    """The share of each label of 0 to `classes` - 1 among those `given`."""
    counts: list[float] = (np.bincount(given, minlength=classes)[:classes] / len(given)).tolist()
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
    return f"{outcome.subject}, {outcome.expectation}: expected {outcome.expected}, found {outcome.observed}"


def band(train: pd.DataFrame, base: int) -> list[float]:
    """Add the column `band` to the summary of the training split: the tenth of the base's mean intensities it falls in.

    Returns:
        The share of the first `base` images in each band: a tenth, but for images of equal mean.
    """
    edges = np.quantile(train["mean"][:base], np.arange(1, _BANDS) / _BANDS)
    train["band"] = np.searchsorted(edges, train["mean"], side="right").astype(np.uint8)
    shares: list[float] = (np.bincount(train["band"][:base], minlength=_BANDS) / base).tolist()
    return shares


def row_names(base: Part, parts: Sequence[Part]) -> list[Any]:
    """How error lines call the rows of the training split: by number, in a further set by its name too."""
    return [*range(base.rows), *(f"{number} of {part.name}" for part in parts for number in range(part.rows))]


def run(params: Params, paths: Paths) -> str:
    from pipeline.core import expectations  # Great Expectations takes seconds: after the parameters have proved right

    manifest, classes = datasets.read_manifest(paths), params.fetch.classes
    splits = {name: datasets.load(paths, name) for name in ("train", "test")}
    tables = {name: summarise(split, len(classes)) for name, split in splits.items()}
    train = tables["train"]
    base, *parts = datasets.parts(manifest, "train")
    compare(splits, tables, base.rows, len(classes), params.validate_.likeness)
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
    sys.exit(console.run_stage("validate", run))
