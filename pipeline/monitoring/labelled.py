"""From answers, or from files that are labelled already, to a data set: its arrays, its file, DVC, and fetch.extra.

Each step can be repeated, so a finish that was interrupted completes when it is called again.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from pipeline.core import files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.ingestion import conversion, layouts
from pipeline.ingestion.samples import ALL, Layout, Sample
from pipeline.monitoring import collected, extra_entry, selected
from pipeline.monitoring.answers import Answers
from pipeline.monitoring.collected import Arrays
from pipeline.monitoring.errors import NoLabelsError
from pipeline.monitoring.selected import Selection

_SPLIT = {"informative": "train", "random": "test"}

Track = Callable[[Path], None]


class Labelled(NamedTuple):
    """The arrays of a new set, and the answers that contradict each other, by what names the image."""

    arrays: Arrays
    conflicts: dict[str, list[str]]


def from_answers(selection: Selection, answers: Answers, paths: Paths) -> Labelled:
    """The arrays of the labelled images, in the order of the selection.

    Raises:
        NoLabelsError: no image has a label.
    """
    labels = answers.labels()
    if not labels:
        raise NoLabelsError(paths.selected, "none")
    others = set(answers.others())
    arrays: dict[str, Any] = {"other": selection.images[[id_ in others for id_ in selection.ids]]}
    for part, split in _SPLIT.items():
        rows = [row for row, id_ in enumerate(selection.ids) if id_ in labels and selection.parts[row] == part]
        arrays[f"x_{split}"] = selection.images[rows]
        arrays[f"y_{split}"] = np.array([labels[selection.ids[row]] for row in rows], str)
    return Labelled(arrays, answers.conflicts())


def from_source(source: Path, params: Params, paths: Paths) -> Labelled:
    """The arrays of files that are labelled already, in any layout of fetch. `test` is their random part, if they have one.

    Images that are in a collected set are left out, and so are those that have different labels.

    Raises:
        LayoutError: the layout is unknown, or an image or a label in it is wrong.
        NoLabelsError: no image is new.
    """
    paths.data.mkdir(exist_ok=True)
    with TemporaryDirectory(prefix="labelled-") as scratch:
        layout = layouts.recognise(source, Path(scratch), params.fetch)
        found = {}
        for split, samples in _divided(layout).items():
            part = conversion.convert(samples, params.fetch, Path(scratch) / f"{split}.raw", _size(paths))
            found[split] = np.array(part.images), np.array(params.fetch.classes)[part.labels]
    ids = {split: selected.identifiers(images) for split, (images, _) in found.items()}
    given: dict[str, list[str]] = {}
    for split, (_, labels) in found.items():
        for id_, label in zip(ids[split], labels, strict=True):
            given.setdefault(id_, []).append(str(label))
    conflicts = {id_: sorted(set(names)) for id_, names in given.items() if len(set(names)) > 1}
    shape = next(iter(found.values()))[0].shape[1:]
    taken = {*conflicts, *selected.identifiers(collected.labelled(paths, shape))}
    arrays: dict[str, Any] = {}
    for split in sorted(found):  # `test` before `train`: an image in both is not trained on
        kept = _first_new(ids[split], taken)
        images, labels = (array[kept] for array in found[split])
        arrays |= {"images": images, "labels": labels} if split == ALL else {f"x_{split}": images, f"y_{split}": labels}
    if not any(len(array) for array in arrays.values()):
        raise NoLabelsError(source, f"{len(given):,} images that are labelled already or differently")
    return Labelled(arrays, conflicts)


def _divided(layout: Layout) -> dict[str, Iterator[Sample]]:
    """The images of each split; validation images are for training."""
    found: dict[str, Iterator[Sample]] = {}
    for split, samples in layout.splits.items():
        name = "train" if split == "validation" else split
        found[name] = chain(found.get(name, ()), samples())
    return found


def _size(paths: Paths) -> tuple[int, ...] | None:
    """The height and width of the base's images, if there are any yet."""
    if not paths.manifest.is_file():
        return None
    return tuple(datasets.read_manifest(paths)["files"]["train_images"]["shape"][1:])


def _first_new(ids: tuple[str, ...], taken: set[str]) -> list[int]:
    """The rows of identifiers that are not in `taken`, which gets them."""
    rows = []
    for row, id_ in enumerate(ids):
        if id_ not in taken:
            taken.add(id_)
            rows.append(row)
    return rows


def publish(name: str, found: Labelled, track: Track, paths: Paths) -> dict[str, Any]:
    """Write a set, let DVC track it, and list it in fetch.extra; say what was written."""
    path = paths.collected / f"{name}.npz"
    collected.write(path, found.arrays)
    track(path)
    extra_entry.append(paths.params, collected.entry(name, paths, found.arrays))
    counts = {key: len(array) for key, array in found.arrays.items() if key.startswith(("y_", "labels", "other"))}
    return {
        "set": name,
        "file": path.relative_to(paths.root).as_posix(),
        "informative": counts.get("y_train", 0),
        "random": counts.get("y_test", 0),
        "undivided": counts.get("labels", 0),
        "other": counts.get("other", 0),
        "conflicts": [{"id": id_, "answers": answers} for id_, answers in found.conflicts.items()],
    }


def name_of_selection(params: Params, paths: Paths) -> str:
    """The name of the set that the selection becomes. It is written down, so that a second finish takes the same."""
    record = paths.selected / "set.json"
    if not record.is_file():
        files.write_json(record, {"set": collected.free_name(params, paths, datetime.now(UTC).date())})
    return str(files.read_json(record)["set"])
