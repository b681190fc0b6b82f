"""The data: arrays on disk, the manifest that describes them, and the splits.

Images are `(n, height, width)` uint8, 0 black to 255 white. Labels are `(n,)` uint8, indices into the classes.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.core import files
from pipeline.core.errors import UnusableInputError
from pipeline.core.fetch_params import FetchParams
from pipeline.core.paths import Paths
from pipeline.data import idx
from pipeline.data.errors import MismatchError
from pipeline.data.idx import Hashed

Pixels = idx.Pixels

FILES = ("train_images", "train_labels", "test_images", "test_labels")
RECENT_FILES = ("recent_images", "recent_labels")  # test images of recent data sets; absent if there are none
RECENT = "recent"  # the split of these, and the slice of the newest of them
DIMENSIONS = {"images": 3, "labels": 1}

_BESIDE_CONTENT = ("fingerprint", "layouts")  # keys of the manifest that do not describe the arrays

# Independent of train.seed, so that runs that differ only in their seed are compared on the same images.
_HELD_OUT_SEED = 0


class Split(NamedTuple):
    """Images `(n, height, width)` and labels `(n,)`, both uint8."""

    images: Pixels
    labels: Pixels


class Segment(NamedTuple):
    """Consecutive rows of a split that come from one data set.

    `sha256` is that of the images' IDX file followed by the labels' IDX file.
    """

    name: str
    rows: int
    sha256: str


def check_shapes(shapes: Mapping[str, Sequence[int]]) -> None:
    """Raise MismatchError unless each split has a label for each image, and all images have one size."""
    for split in ("train", "test"):
        images, labels = shapes[f"{split}_images"][0], shapes[f"{split}_labels"][0]
        if images != labels:
            raise MismatchError(f"{split} split", "a label for each image", f"{images:,} images and {labels:,} labels")
    train, test = ("x".join(map(str, shapes[f"{split}_images"][1:])) for split in ("train", "test"))
    if train != test:
        raise MismatchError("images", "one size", f"{train} in the train and {test} in the test split")


def manifest(
    arrays: Mapping[str, Hashed],
    segments: Mapping[str, Sequence[Segment]],
    params: FetchParams,
    layouts: Mapping[str, str] | None = None,
    weights: Mapping[str, int | str] | None = None,
) -> dict[str, Any]:
    """Describe the data by its content, not by its source: equal data has an equal fingerprint.

    Args:
        segments: the segments of each split, in the order of its rows: the base, then in training the extra data sets. The
            split `recent` has the test images of each recent data set, which may be none.
        weights: how often each image of an extra data set counts in training, or `auto`, by the name of the set; 1 if absent.
        layouts: the layout that was recognised, by the name of the data set. It is recorded beside the content.
    """
    recognised = {name: layout for name, layout in (layouts or {}).items() if layout}
    content = {
        "dataset": params.dataset,
        "classes": list(params.classes),
        "licence": params.licence,
        "files": {name: {"shape": list(arrays[name].shape), "sha256": arrays[name].sha256} for name in arrays},
        "parts": {split: [segment._asdict() for segment in each] for split, each in segments.items()},
        **({"weights": dict(weights)} if weights else {}),
    }
    return {"fingerprint": _fingerprint(content), **content, **({"layouts": recognised} if recognised else {})}


def _fingerprint(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_manifest(paths: Paths) -> dict[str, Any]:
    """Read the manifest.

    Raises:
        MissingInputError: there is none.
        UnusableInputError: its fingerprint shows that it changed after fetch wrote it.
    """
    found = files.read_json(paths.manifest)
    if not isinstance(found, dict) or "parts" not in found:
        raise UnusableInputError(paths.manifest, "a manifest of the data", "other JSON")
    if found.get("fingerprint") != _fingerprint({key: found[key] for key in found if key not in _BESIDE_CONTENT}):
        raise UnusableInputError(paths.manifest, "content that matches its fingerprint", "other content")
    return found


def segments(manifest: Mapping[str, Any], split: str) -> list[Segment]:
    """The segments of a split, in the order of its rows."""
    return [Segment(**segment) for segment in manifest["parts"].get(split, [])]


def weights(manifest: Mapping[str, Any]) -> list[int | str]:
    """How often the images of each segment of the training split count, or `auto`."""
    found: Mapping[str, int | str] = manifest.get("weights", {})
    return [found.get(segment.name, 1) for segment in segments(manifest, "train")]


def recent_slices(paths: Paths, newest: int) -> dict[str, Split]:
    """The test images of each recent data set by its name, and of the last `newest` sets together as `recent`.

    Sets without test images are left out. The dictionary is empty without recent data sets.
    """
    found = [segment for segment in segments(read_manifest(paths), RECENT) if segment.rows]
    if not found:
        return {}
    whole, parts = load(paths, RECENT), slices([segment.rows for segment in found])
    together = {RECENT: slice(parts[-newest:][0].start, parts[-1].stop)}
    named = together | {segment.name: part for segment, part in zip(found, parts, strict=True)}
    return {name: Split(whole.images[part], whole.labels[part]) for name, part in named.items()}


def train_rows(paths: Paths) -> list[int]:
    """The number of rows of each segment of the training split: of the base, then of each extra data set."""
    return [segment.rows for segment in segments(read_manifest(paths), "train")]


def slices(rows: Sequence[int]) -> list[slice]:
    """The slice of each segment, given the number of rows of each."""
    return [slice(stop - count, stop) for count, stop in zip(rows, accumulate(rows), strict=True)]


def load(paths: Paths, split: str) -> Split:
    """Memory-map the `train` or `test` split after checking both files against the manifest.

    Raises:
        MissingInputError: a file is missing.
        UnusableInputError: a file differs from the one that the manifest names.
    """
    expected = read_manifest(paths)["files"]
    for kind in DIMENSIONS:
        path, pinned = _npy(paths, split, kind), expected[f"{split}_{kind}"]["sha256"]
        found = idx.sha256(path)
        if found != pinned:
            shown = f"{found[:12]}…" if found else "no array of uint8"
            raise UnusableInputError(path, f"content with SHA-256 {pinned[:12]}…", shown)
    return open_split(paths, split)


def open_split(paths: Paths, split: str) -> Split:
    """Memory-map a split without checking its content."""
    images, labels = (idx.mapped(_npy(paths, split, kind)) for kind in DIMENSIONS)
    return Split(images, labels)


def _npy(paths: Paths, split: str, kind: str) -> Path:
    return files.require(paths.raw / f"{split}_{kind}.npy")


def hold_out(rows: Sequence[int], fraction: float) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Divide the training samples into indices to fit on and indices to validate on, each sorted.

    About `fraction` of the base is held out. Extra data sets are never held out and do not change which images are, so runs
    with and without them can be compared. The second array is empty if `fraction` is 0.

    Args:
        rows: the number of samples of the base and of each extra data set, from `train_rows`.
    """
    base, total = rows[0], sum(rows)
    order = np.random.default_rng(_HELD_OUT_SEED).permutation(base)
    size = round(base * fraction)
    return np.concatenate([np.sort(order[size:]), np.arange(base, total)]), np.sort(order[:size])
