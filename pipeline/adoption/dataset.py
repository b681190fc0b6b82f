"""The data set to adopt: what was recognised, a profile of it, and the parameters that follow from it."""

import argparse
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

from pipeline.adoption import bounds, issues, survey
from pipeline.adoption.bounds import Choice
from pipeline.adoption.errors import AdoptError
from pipeline.adoption.issues import Issue
from pipeline.adoption.survey import Size, Survey
from pipeline.core.fetch_params import FetchParams
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data import datasets, folders, idx
from pipeline.data.datasets import Pixels, Split
from pipeline.data.idx import Hashed
from pipeline.ingestion import layout_dataset, layouts, sources
from pipeline.ingestion.errors import SourceRefusedError
from pipeline.ingestion.layout_dataset import Rows
from pipeline.ingestion.samples import ALL, Layout, LayoutError

_PROFILED = 100_000  # images of a split; of more, an evenly spaced sample is profiled
_LICENCE = "not stated: name the owner of the data and the licence here"
_NOTHING = "Check the data, or name another folder or file."


class Request(NamedTuple):
    """What the command line asks for."""

    source: str
    name: str
    size: Size | None
    test_share: float
    accept: bool


def request(options: argparse.Namespace, params: Params, paths: Paths) -> Request:
    """Check the options of the command line."""
    source = options.data
    if not sources.is_url(source):
        path = Path(source)
        if not path.exists():
            raise AdoptError(source, "a file or folder", "none", "Check the path.")
        inside = path.resolve().is_relative_to(paths.root.resolve())
        source = path.resolve().relative_to(paths.root.resolve()).as_posix() if inside else str(path.resolve())
    stem = (urlsplit(source).path if sources.is_url(source) else source).rstrip("/").rpartition("/")[2].partition(".")[0]
    name = re.sub(r"[^a-z0-9]+", "-", (options.name or stem).casefold()).strip("-")
    if not name:
        raise AdoptError("--name", "letters or digits", repr(options.name or stem), "Give a name with --name.")
    share = params.fetch.test_share if options.test_share is None else options.test_share
    if not 0 < share < 1:
        raise AdoptError("--test-share", "a share between 0 and 1", f"{share:g}", "Give for example 0.15.")
    return Request(source, name, _size(options.size), share, options.accept)


def _size(text: str | None) -> Size | None:
    if text is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,3})x([1-9][0-9]{0,3})", text)
    if found is None:
        raise AdoptError("--size", "height and width as 28x28", repr(text), "Correct it.")
    return int(found[1]), int(found[2])


class Found(NamedTuple):
    """A data set that can be adopted: `params` are those to train with, `choices` those of fetch and validate."""

    description: tuple[str, ...]
    train: Split
    params: Params
    choices: list[Choice]
    undecided: list[str]
    splits: Mapping[str, Split]
    issues: Sequence[Issue]
    names: Mapping[tuple[str, int], str]

    def write_issues(self, folder: Path) -> None:
        """Write the table of issues and the contact sheet."""
        issues.write(self.issues, self.splits, self.names, folder)


@contextmanager
def opened(asked: Request, params: Params, scratch: Path) -> Iterator[Found]:
    """Look at the data set, and convert it to arrays in the empty folder `scratch`.

    Raises:
        AdoptError: no model can be trained on it.
    """
    try:
        with sources.local(asked.source, scratch, params.fetch) as path:
            unpacked = scratch / "layout"
            unpacked.mkdir()
            start = params.fetch.model_copy(update={"size": asked.size, "extra": ()})
            yield _found(asked, layouts.recognise(path, unpacked, start), params, scratch)
    except (LayoutError, SourceRefusedError) as error:
        text = str(error).removeprefix(f"{asked.source}: ")
        raise AdoptError(asked.source, *_halves(text), _NOTHING) from error


def _halves(text: str) -> tuple[str, str]:
    """What was expected and found, of an error that says both."""
    expected, _, found = text.partition(", found ")
    return (expected.removeprefix("expected "), found) if found else ("a data set", text)


def _found(asked: Request, layout: Layout, params: Params, scratch: Path) -> Found:
    seen = survey.look(layout)
    classes = survey.class_names(seen, layout)
    survey.check(seen, classes, _most_unreadable(params))
    _check_labels_of_named_files(asked.source, classes, params)
    chosen = _fetch_choices(asked, classes, seen, params)
    values = {choice.key.rpartition(".")[2]: choice.value for choice in chosen if choice.key.startswith("fetch.")}
    size = None if values["size"] == "null" else tuple(values["size"])
    lists = {key: tuple(values[key]) for key in ("classes", "sources", "extra")}
    fetch = params.fetch.model_copy(update={**values, **lists, "size": size})
    rows, distance = _converted(layout, fetch, params.validate_.near_duplicate_distance, scratch)
    hashes = layout_dataset.write(rows, scratch)
    splits = {name: Split(*(idx.mapped(scratch / f"{name}_{kind}.npy") for kind in Split._fields)) for name in rows}
    profiled = {name: Split(*(array[:: _step(len(array))] for array in split)) for name, split in splits.items()}
    tables = _tables(profiled, len(classes), distance.value)
    listed = issues.find(tables, classes, seen.unreadable)
    counts = {name: len(each) for name, (_, each) in rows.items()}
    chosen += [*_pins(hashes), distance, *bounds.from_profile(tables, counts, len(classes), asked.accept)]
    height, width = splits["train"].images.shape[1:]
    evaluate = params.evaluate.model_copy(update={"shift": max(1, round(params.evaluate.shift * width / 28))})
    chosen.append(Choice("evaluate.shift", evaluate.shift, f"in proportion to a width of {width}"))
    chosen.append(_layout(profiled["train"].images))
    return Found(
        description=_description(asked, layout, seen, classes, counts, (height, width)),
        train=splits["train"],
        params=params.model_copy(update={"fetch": fetch, "evaluate": evaluate}),
        choices=chosen,
        undecided=issues.to_decide(tables, seen.unreadable),
        splits=profiled,
        issues=listed,
        names=_names(layout, rows, listed),
    )


def _layout(images: Pixels) -> Choice:
    """Whether most images are light ink on black in a box of 20/28, as MNIST's are: `predict` then brings pictures to it."""
    ink = images > 0
    black = (np.median(images[:, 0], axis=1) == 0) & (np.median(images[:, -1], axis=1) == 0)
    sides = [ink.any(axis=axis).sum(axis=1) / images.shape[3 - axis] for axis in (1, 2)]
    share = float((black & (np.abs(np.maximum(*sides) - 20 / 28) < 0.04)).mean())
    return Choice(
        "predict.layout", "mnist" if share > 0.9 else "as_is", f"{share:.0%} of the images are laid out as MNIST's are"
    )


def _converted(layout: Layout, fetch: FetchParams, radius: float, scratch: Path) -> tuple[dict[str, Rows], Choice]:
    """The images, divided with the radius of near-duplicates that suits them."""
    rows = layout_dataset.convert(layout, fetch, radius, scratch)
    data, train = rows["train"]
    train = train[:: _step(len(train))]
    distance = bounds.near_duplicate_distance(Split(data.images[train], data.labels[train]))
    if distance.value != radius and ALL in layout_dataset.divided(layout):
        rows = layout_dataset.convert(layout, fetch, distance.value, scratch)
    return rows, distance


def _most_unreadable(params: Params) -> float:
    """At least a hundredth: files that cannot be read are asked about, not an error."""
    return max(params.fetch.max_unreadable, 0.01)


def _step(count: int) -> int:
    return -(-count // _PROFILED)


def _names(layout: Layout, rows: Mapping[str, Rows], listed: Sequence[Issue]) -> dict[tuple[str, int], str]:
    """The names of the images with issues, by split and row: files, or rows of the source."""
    wanted: dict[str, dict[int, tuple[str, int]]] = {}
    for each in listed:
        if each.row >= 0:
            data, chosen = rows[each.split]
            wanted.setdefault(data.split, {})[int(data.ordinals[chosen[each.row * _step(len(chosen))]])] = (
                each.split,
                each.row,
            )
    samples = layout_dataset.divided(layout) if wanted else {}
    return {
        at[ordinal]: sample.name
        for split, at in wanted.items()
        for ordinal, sample in enumerate(samples[split])
        if ordinal in at
    }


def _tables(splits: Mapping[str, Split], classes: int, radius: float) -> dict[str, pd.DataFrame]:
    from pipeline.validation import image_table

    tables = {name: image_table.summarise(split, classes) for name, split in splits.items()}
    image_table.compare(splits, tables, len(splits["train"].labels), classes, radius)
    return tables


def _check_labels_of_named_files(source: str, classes: Sequence[str], params: Params) -> None:
    """IDX files with the names in `fetch.files` are read as they are: their labels are the positions of the classes."""
    if sources.names_idx(source, params.fetch) and list(classes) != [str(number) for number in range(len(classes))]:
        found = f"{classes[0]} to {classes[-1]} in files with the names of fetch.files"
        raise AdoptError("labels", f"0 to {len(classes) - 1}", found, "Rename the files, for example by a prefix.")


def _fetch_choices(asked: Request, classes: Sequence[str], seen: Survey, params: Params) -> list[Choice]:
    size, why = survey.image_size(seen, asked.size)
    invert = seen.inverted and not sources.names_idx(asked.source, params.fetch)
    return [
        Choice("fetch.invert", invert, f"{seen.light_ground:.0%} of the images have a light ground"),
        Choice("fetch.size", list(size) if size else "null", why),
        Choice("fetch.dataset", asked.name, ""),
        Choice("fetch.licence", _LICENCE, ""),
        Choice("fetch.classes", list(classes), "as the data spell them"),
        Choice("fetch.sources", [asked.source], ""),
        Choice("fetch.white", bounds.whole(seen.white), "the brightest pixel, or that of the type"),
        Choice("fetch.test_share", asked.test_share, ""),
        Choice("fetch.max_unreadable", _most_unreadable(params), f"{len(seen.unreadable):,} today"),
        Choice("fetch.extra", [], ""),
        Choice("tracking.experiment", asked.name, ""),
        Choice("tracking.model", f"{asked.name}-dense", ""),
    ]


def _pins(hashes: Mapping[str, Hashed]) -> list[Choice]:
    return [Choice(f"fetch.files.{name}.sha256", hashes[name].sha256, "") for name in datasets.FILES]


def _description(
    asked: Request, layout: Layout, seen: Survey, classes: Sequence[str], counts: Mapping[str, int], size: Sequence[int]
) -> tuple[str, ...]:
    per_class = sum(seen.counts.values(), Counter())
    fewest, most = min(per_class.values()), max(per_class.values())
    divided = f", {asked.test_share:.0%} held out by content" if ALL in seen.counts else ""
    lines = [
        f"{asked.source} is {layout.kind}",
        f"{len(classes)} classes of {fewest:,} to {most:,} images: {folders.listed(classes, 10)}",
        f"{counts['train']:,} training and {counts['test']:,} test images of {size[0]}x{size[1]}{divided}",
        *(f"left out {note}" for note in layout.notes),
    ]
    if seen.inverted:
        lines.append("dark ink on a light ground: inverted, so that the ground is black")
    if len(seen.sizes) > 1:
        lines.append(f"{len(seen.sizes):,} sizes, scaled and padded to {size[0]}x{size[1]}")
    return tuple(lines)
