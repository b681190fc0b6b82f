"""One row an image: what the expectations look at instead of pixels."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.data import datasets
from pipeline.data.datasets import Segment, Split
from pipeline.validation import label_issues, near_duplicates

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
    space = near_duplicates.fit(splits["train"].images[:base])
    places = {name: near_duplicates.place(split.images, space) for name, split in splits.items()}
    views = {
        name: near_duplicates.View(splits[name].images, places[name].shape, np.flatnonzero(~table["repeated"]))
        for name, table in tables.items()
    }
    for name, table in tables.items():
        label = table["label"].to_numpy()
        table["conflicting"] = label != table.groupby("content_hash")["label"].transform("first")
        earlier, later = np.sort(near_duplicates.twins(views[name], views[name], radius), axis=0)
        table.loc[later, "repeated"] = True
        table.loc[later[label[earlier] != label[later]], "conflicting"] = True
    train, test = tables["train"], tables["test"]
    train["in_test"] = train["content_hash"].isin(test["content_hash"])
    train.loc[near_duplicates.twins(views["train"], views["test"], radius)[0], "in_test"] = True
    of_base, *others = [
        label_issues.Sample(places[name].look[rows], splits[name].labels[rows])
        for name, rows in (("train", slice(base)), ("train", slice(base, None)), ("test", slice(None)))
    ]
    doubted = label_issues.doubtful(of_base, others, classes)
    train["doubtful"], test["doubtful"] = np.concatenate(doubted[:2]), doubted[2]


def class_shares(given: datasets.Pixels, classes: int) -> list[float]:
    """The share of each label of 0 to `classes` - 1 among those `given`."""
    counts: list[float] = (np.bincount(given, minlength=classes)[:classes] / len(given)).tolist()
    return counts


def band(train: pd.DataFrame, base: int) -> list[float]:
    """Add the column `band` to the summary of the training split: the tenth of the base's mean intensities it falls in.

    Returns:
        The share of the first `base` images in each band: a tenth, but for images of equal mean.
    """
    edges = np.quantile(train["mean"][:base], np.arange(1, _BANDS) / _BANDS)
    train["band"] = np.searchsorted(edges, train["mean"], side="right").astype(np.uint8)
    shares: list[float] = (np.bincount(train["band"][:base], minlength=_BANDS) / base).tolist()
    return shares


def row_names(base: Segment, parts: Sequence[Segment]) -> list[Any]:
    """How error lines call the rows of the training split: by number, in a further set by its name too."""
    return [*range(base.rows), *(f"{number} of {part.name}" for part in parts for number in range(part.rows))]
