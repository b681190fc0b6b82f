"""Summarise images in a table with one row per image, which the expectations check instead of pixels."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.data import datasets
from pipeline.data.datasets import Segment, Split
from pipeline.validation import label_issues, near_duplicates
from pipeline.validation.label_issues import Flags, Labelled
from pipeline.validation.near_duplicates import Candidates, Embeddings, Floats

_BANDS = 10  # of mean intensity, each with a tenth of the base
_CHUNK = 10_000  # images summarised at a time, so that memory does not grow with the pixels
# Share of the median margin from which the base's preference for another class counts against a recent image. At 0, a tenth of
# the images that `make select` finds informative would count, because they are the difficult ones; at 0.2, one in twenty.
_DOUBTFUL = 0.2


def summarise(split: Split, classes: int) -> pd.DataFrame:
    """Describe each image of a split by itself, in 40 bytes for MNIST.

    Returns:
        Columns: label; ink, the share of pixels above 0; mean, minimum and maximum of the pixels, 0 to 255; content_hash, 64
        bits, equal for two of a million different images with probability 3e-8; duplicate, whether an earlier image is the
        same; and is_0, is_1 ... for each of `classes`.
    """
    chunks = [_summarise(split.images[start : start + _CHUNK]) for start in range(0, len(split.images), _CHUNK)]
    table = pd.concat(chunks, ignore_index=True)
    table.insert(0, "label", np.asarray(split.labels))
    table["duplicate"] = table["content_hash"].duplicated()
    for label in range(classes):
        table[f"is_{label}"] = (table["label"] == label).astype(np.uint8)
    return table


def _summarise(images: datasets.Pixels) -> pd.DataFrame:
    flat = np.ascontiguousarray(images).reshape(len(images), -1)
    hashes = b"".join(hashlib.blake2b(row.data, digest_size=8).digest() for row in flat)
    return pd.DataFrame(
        {
            "ink": np.count_nonzero(flat, axis=1) / flat.shape[1],
            "mean": flat.mean(axis=1),
            "minimum": flat.min(axis=1),
            "maximum": flat.max(axis=1),
            "content_hash": np.frombuffer(hashes, np.uint64),
        }
    )


def compare(
    splits: Mapping[str, Split],
    tables: Mapping[str, pd.DataFrame],
    base: int,
    classes: int,
    radius: float,
    recent: Flags | None = None,
) -> None:
    """Add columns that compare images with each other.

    `conflicting_label`: it duplicates an earlier image under another label. `duplicate` is also set for near-duplicates.
    `leaked`, of a training image: it duplicates a test image. `label_issue`: a classifier fitted on the base disagrees with
    its label; in recent data sets, where the world may have changed, the most similar images of these sets disagree too.

    Args:
        splits: `train`, `test`, and `recent`, the test images of recent data sets, if there are any.
        base: the number of training images without the extra data sets.
        radius: images closer than this count as near-duplicates.
        recent: which training images are of recent data sets, `(n,)`.
    """
    embedder = near_duplicates.fit(splits["train"].images[:base])
    embeddings = {name: near_duplicates.embed(split.images, embedder) for name, split in splits.items()}
    candidates = {
        name: Candidates(splits[name].images, embeddings[name].magnitudes, np.flatnonzero(~table["duplicate"]))
        for name, table in tables.items()
    }
    for name, table in tables.items():
        _flag_duplicates(table, candidates[name], radius)
    train, others = tables["train"], [name for name in splits if name != "train"]
    train["leaked"] = False
    for name in splits.keys() - {"train"}:
        train["leaked"] |= train["content_hash"].isin(tables[name]["content_hash"])
        train.loc[near_duplicates.duplicate_pairs(candidates["train"], candidates[name], radius)[0], "leaked"] = True
    labelled = [
        Labelled(embeddings[name].coefficients[rows], splits[name].labels[rows])
        for name, rows in (("train", slice(base)), ("train", slice(base, None)), *((name, slice(None)) for name in others))
    ]
    of_base, of_extra, *of_others = label_issues.margins(labelled[0], labelled[1:], classes)
    margins = {"train": np.concatenate([of_base, of_extra]), **dict(zip(others, of_others, strict=True))}
    for name, found in margins.items():
        tables[name]["label_issue"] = found >= 1
    if (recent is not None and recent.any()) or datasets.RECENT in tables:
        _flag_recent_label_issues(embeddings, splits, tables, margins, recent)


def _flag_recent_label_issues(
    embeddings: Mapping[str, Embeddings],
    splits: Mapping[str, Split],
    tables: Mapping[str, pd.DataFrame],
    margins: Mapping[str, Floats],
    recent: Flags | None,
) -> None:
    """Set `label_issue` of recent images: the base rather prefers another class, and no similar recent image has the label.

    `contradicted` is whether the base clearly prefers another class, as for a label issue of any other image.
    """
    rows = {name: np.ones(len(tables[name]), bool) for name in tables.keys() & {datasets.RECENT}}
    if recent is not None:
        rows = {"train": recent} | rows
    features = np.concatenate([embeddings[name].coefficients[chosen] for name, chosen in rows.items()])
    labels = np.concatenate([splits[name].labels[chosen] for name, chosen in rows.items()])
    unsupported = label_issues.unsupported(Labelled(features, labels))
    for name, chosen in rows.items():
        own, unsupported = np.split(unsupported, [int(chosen.sum())])
        tables[name]["contradicted"] = margins[name] >= 1
        tables[name].loc[chosen, "label_issue"] = (margins[name][chosen] >= _DOUBTFUL) & own


def _flag_duplicates(table: pd.DataFrame, candidates: Candidates, radius: float) -> None:
    label = table["label"].to_numpy()
    table["conflicting_label"] = label != table.groupby("content_hash")["label"].transform("first")
    earlier, later = np.sort(near_duplicates.duplicate_pairs(candidates, candidates, radius), axis=0)
    table.loc[later, "duplicate"] = True
    table.loc[later[label[earlier] != label[later]], "conflicting_label"] = True


def class_shares(labels: datasets.Pixels, classes: int) -> list[float]:
    """The share of each label of 0 to `classes` - 1."""
    shares: list[float] = (np.bincount(labels, minlength=classes)[:classes] / len(labels)).tolist()
    return shares


def add_intensity_bands(train: pd.DataFrame, base: int) -> list[float]:
    """Add the column `intensity_band`: which tenth of the base's mean intensities an image falls into.

    Returns:
        The share of the first `base` images in each band: a tenth, unless many images have the same mean.
    """
    edges = np.quantile(train["mean"][:base], np.arange(1, _BANDS) / _BANDS)
    train["intensity_band"] = np.searchsorted(edges, train["mean"], side="right").astype(np.uint8)
    return class_shares(train["intensity_band"].to_numpy()[:base], _BANDS)


def row_names(base: Segment, extra: Sequence[Segment]) -> list[Any]:
    """The names of training images in error lines: the index, and in an extra data set its name too."""
    return [*range(base.rows), *(f"{number} of {segment.name}" for segment in extra for number in range(segment.rows))]
