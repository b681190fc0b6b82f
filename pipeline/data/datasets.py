"""The data: the arrays on disk, the manifest that describes them, and the splits.

Images are `(n, height, width)` uint8, 0 black to 255 white; labels are `(n,)` uint8, an index into the classes.
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
from pipeline.core.params import FetchParams
from pipeline.core.paths import Paths
from pipeline.data import idx
from pipeline.data.errors import MismatchError
from pipeline.data.idx import Decoded

Pixels = idx.Pixels

FILES = ("train_images", "train_labels", "test_images", "test_labels")
DIMENSIONS = {"images": 3, "labels": 1}

# Which images are held out for validation does not follow train.seed: runs that differ only in their seed are compared on
# the same images.
_HELD_OUT_SEED = 0


class Split(NamedTuple):
    """Images `(n, height, width)` uint8 and labels `(n,)` uint8 of the same n."""

    images: Pixels
    labels: Pixels


class Part(NamedTuple):
    """Rows of a split that came together: `sha256` is that of their images as IDX, followed by their labels as IDX."""

    name: str
    rows: int
    sha256: str


def check_shapes(shapes: Mapping[str, Sequence[int]]) -> None:
    """Raise MismatchError unless each split has a label for each image, and both splits images of one size."""
    for split in ("train", "test"):
        images, labels = shapes[f"{split}_images"][0], shapes[f"{split}_labels"][0]
        if images != labels:
            raise MismatchError(f"{split} split", "a label for each image", f"{images:,} images and {labels:,} labels")
    train, test = ("x".join(map(str, shapes[f"{split}_images"][1:])) for split in ("train", "test"))
    if train != test:
        raise MismatchError("images", "one size", f"{train} in the train and {test} in the test split")


def manifest(decoded: Mapping[str, Decoded], parts: Mapping[str, Sequence[Part]], params: FetchParams) -> dict[str, Any]:
    """Describe the arrays by what they are and not by where they came from: equal data gives an equal manifest.

    Args:
        parts: what each split consists of, in the order of its rows: the base, and in training the further sets.
    """
    content = {
        "dataset": params.dataset,
        "classes": list(params.classes),
        "licence": params.licence,
        "files": {name: {"shape": list(decoded[name].shape), "sha256": decoded[name].sha256} for name in FILES},
        "parts": {split: [part._asdict() for part in found] for split, found in parts.items()},
    }
    return {"fingerprint": _fingerprint(content), **content}


def _fingerprint(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_manifest(paths: Paths) -> dict[str, Any]:
    """What `manifest` described.

    Raises:
        MissingInputError: it is not there.
        UnusableInputError: it is not what fetch wrote, which its own fingerprint tells.
    """
    found = files.read_json(paths.manifest)
    if not isinstance(found, dict) or "parts" not in found:
        raise UnusableInputError(paths.manifest, "a manifest of the data", "other JSON")
    if found.get("fingerprint") != _fingerprint({key: value for key, value in found.items() if key != "fingerprint"}):
        raise UnusableInputError(paths.manifest, "the content that its fingerprint tells", "another")
    return found


def parts(manifest: Mapping[str, Any], split: str) -> list[Part]:
    """What a split consists of, in the order of its rows, by what `read_manifest` returned."""
    return [Part(**part) for part in manifest["parts"][split]]


def train_rows(paths: Paths) -> list[int]:
    """How many rows of the training split are of the base, and of each further set, in the order of the rows."""
    return [part.rows for part in parts(read_manifest(paths), "train")]


def slices(rows: Sequence[int]) -> list[slice]:
    """Where each of the parts lies whose numbers of rows these are."""
    return [slice(stop - count, stop) for count, stop in zip(rows, accumulate(rows), strict=True)]


def load(paths: Paths, split: str) -> Split:
    """Memory-map the `train` or `test` split, after hashing both files again.

    Raises:
        MissingInputError: a file is not there.
        UnusableInputError: a file is not the one that the manifest names.
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
    """Memory-map a split without hashing it, where its content is not what matters."""
    images, labels = (idx.mapped(_npy(paths, split, kind)) for kind in DIMENSIONS)
    return Split(images, labels)


def _npy(paths: Paths, split: str, kind: str) -> Path:
    return files.require(paths.raw / f"{split}_{kind}.npy")


def hold_out(rows: Sequence[int], fraction: float) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Divide the training samples into indices to fit on and, of about `fraction` of the base, indices to validate on.

    Validation images are of the base only, and the same whatever is added to it: runs with and without further sets are
    compared on the same images. Both are sorted, disjoint and complete. The second is empty when `fraction` is 0.

    Args:
        rows: how many samples the base has, and each further set, as `train_rows` tells.
    """
    base, count = rows[0], sum(rows)
    order = np.random.default_rng(_HELD_OUT_SEED).permutation(base)
    size = round(base * fraction)
    return np.concatenate([np.sort(order[size:]), np.arange(base, count)]), np.sort(order[:size])
