"""Arrays of images and labels: IDX files as MNIST's, and npz files as Keras ships (`x_train`) or `images` and `labels`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core import files
from pipeline.data import idx, npz
from pipeline.data.errors import IdxError
from pipeline.ingestion.samples import ALL, Layout, LayoutError, Sample, split_of, split_of_file

Arrays = Mapping[str, npt.NDArray[Any]]

_IDX = {3: "images", 1: "labels"}  # by the number of dimensions
_KINDS = {"images": ("x", "image", "images", "img", "data"), "labels": ("y", "label", "labels", "target", "targets")}
_NEITHER = "one of images and one of labels for each split"


def idx_kind(path: Path) -> str | None:
    """`images` or `labels` if the file is an IDX file of uint8, gzipped or not, by its content; None for any other file."""
    try:
        with files.open_decompressed(path) as stream:
            magic = stream.read(4)
    except (OSError, EOFError):
        return None
    return _IDX.get(magic[3]) if len(magic) == 4 and magic[:3] == b"\0\0\x08" else None


def recognise_idx(kinds: Mapping[Path, str], root: Path, scratch: Path, max_bytes: int) -> Layout:
    """The layout of IDX files in `root`; `kinds` says for each file whether it has images or labels."""
    paths = {path.relative_to(root).as_posix(): path for path in kinds}
    pairs = _pairs({name: (kinds[path], split_of_file(path, root)) for name, path in paths.items()}, root)

    def arrays(split: str) -> Iterator[Sample]:
        found = {kind: _mapped_idx(paths[name], kind, scratch, max_bytes) for kind, name in pairs[split].items()}
        return _samples(pairs[split]["images"], found["images"], found["labels"])

    return Layout("IDX files", {split: partial(arrays, split) for split in pairs})


def _mapped_idx(path: Path, kind: str, scratch: Path, max_bytes: int) -> npt.NDArray[Any]:
    npy = Path(mkdtemp(dir=scratch)) / "array.npy"
    dimensions = {kind: count for count, kind in _IDX.items()}[kind]
    try:
        with files.open_decompressed(path) as stream:
            idx.decode(stream, dimensions, npy, max_bytes)
    except IdxError as error:
        raise LayoutError(path, error.expected, error.found) from error
    except (OSError, EOFError) as error:
        raise LayoutError(path, "a complete IDX file", str(error)) from error
    return idx.mapped(npy)


def recognise_npz(path: Path, scratch: Path, max_bytes: int) -> Layout:
    """The layout of an npz file."""
    try:
        with path.open("rb") as stream:
            names = npz.names(stream)
    except IdxError as error:
        raise LayoutError(path, error.expected, error.found) from error
    kinds = {name: (kind, split_of(name)) for name in names if (kind := _kind(name))}
    pairs = _pairs(kinds, path)

    def arrays(split: str) -> Iterator[Sample]:
        found = {kind: _mapped_npz(path, name, scratch, max_bytes) for kind, name in pairs[split].items()}
        return _samples(path.name, found["images"], found["labels"])

    return Layout("an npz file", {split: partial(arrays, split) for split in pairs})


def _kind(name: str) -> str | None:
    words = set(re.split(r"[^a-z]+", name.casefold()))
    found = [kind for kind, spellings in _KINDS.items() if words & set(spellings)]
    return found[0] if len(found) == 1 else None


def _mapped_npz(path: Path, name: str, scratch: Path, max_bytes: int) -> npt.NDArray[Any]:
    npy = Path(mkdtemp(dir=scratch)) / "array.npy"  # not the array's own name, which may lead elsewhere
    try:
        with path.open("rb") as stream:
            return npz.extract(stream, name, npy, max_bytes)
    except IdxError as error:
        raise LayoutError(path, error.expected, error.found) from error


def _pairs(kinds: Mapping[str, tuple[str, str | None]], where: Path) -> dict[str, dict[str, str]]:
    """The names of the images and of the labels of each split; `kinds` has the kind and the split of each array."""
    pairs: dict[str, dict[str, str]] = {}
    for name, (kind, own) in kinds.items():
        split = pairs.setdefault(own or ALL, {})
        if kind in split:
            raise LayoutError(where, _NEITHER, f"{split[kind]} and {name}, both of {kind}")
        split[kind] = name
    if not pairs or any(len(pair) != len(_KINDS) for pair in pairs.values()) or (ALL in pairs and len(pairs) > 1):
        raise LayoutError(where, _NEITHER, ", ".join(kinds) or "other arrays")
    return pairs


def _samples(where: str, images: npt.NDArray[Any], labels: npt.NDArray[Any]) -> Iterator[Sample]:
    flat = labels.reshape(-1) if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if flat.ndim != 1 or len(flat) != len(images):
        raise LayoutError(where, "a label for each image", f"images {images.shape} and labels {labels.shape}")
    if images.ndim not in (3, 4):
        raise LayoutError(where, "images (n, height, width)", f"shape {images.shape}")
    for number, label in enumerate(_texts(where, flat)):
        yield Sample(f"{where} image {number}", label, partial(_grey, images, number))


def _texts(where: str, labels: npt.NDArray[Any]) -> Sequence[str]:
    if labels.dtype.kind == "f":
        whole = labels == np.floor(labels)
        if not whole.all():
            raise LayoutError(where, "labels that are integers", str(labels[~whole][0]))
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "biuUS":
        raise LayoutError(where, "labels that are integers or text", f"type {labels.dtype}")
    return [text.decode(errors="replace") if isinstance(text, bytes) else str(text) for text in labels.tolist()]


def _grey(images: npt.NDArray[Any], number: int) -> npt.NDArray[Any]:
    """An image as it is, or its luma (ITU-R 601) if it has colours."""
    image = images[number]
    if image.ndim == 2:
        return np.asarray(image)
    if image.shape[2] == 1:
        return np.asarray(image[:, :, 0])
    luma = image[:, :, :3].astype(np.float64) @ (0.299, 0.587, 0.114)
    return np.asarray(luma if image.dtype.kind == "f" else luma.round())
