"""Extra data sets (`fetch.extra`): labelled training images in any layout, or in two IDX files that the entry names."""

import gzip
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, cast

from pipeline.core import console
from pipeline.core.fetch_params import ExtraParams, FetchParams
from pipeline.core.urls import redacted
from pipeline.data import idx, npz
from pipeline.data.datasets import DIMENSIONS, Segment
from pipeline.data.errors import IdxError, MissingArrayError
from pipeline.data.idx import Hashed
from pipeline.ingestion import conversion, layouts, recent_dataset, sources
from pipeline.ingestion.errors import ExtraDatasetError, SourceRefusedError
from pipeline.ingestion.samples import LayoutError


class ExtraDataset(NamedTuple):
    """The `.npy` files `images` and `labels` of an extra data set, its entry in the manifest, and the recognised layout.

    `recent` is that of the test images of a recent data set, without a layout of its own.
    """

    npys: dict[str, Path]
    segment: Segment
    layout: str
    recent: "ExtraDataset | None" = None


def fetch(
    extra: ExtraParams, size: Sequence[int], params: FetchParams, radius: float, probe: sources.Probe, folder: Path
) -> ExtraDataset:
    """Write an extra data set to the new folder `folder`.

    Args:
        size: the height and width of the base's images.
        radius: of near-duplicates, which a held-out test split keeps together.

    Raises:
        ExtraDatasetError: the source fails, the content differs from the pinned hash, or it does not fit the base.
    """
    folder.mkdir()
    npys = {kind: folder / f"{kind}.npy" for kind in DIMENSIONS}
    try:
        if reason := probe.refusal(extra.source, [other.source for other in params.extra]):
            raise SourceRefusedError(reason)
        if extra.recent:
            return _fetch_recent(extra, size, params, radius, folder)
        arrays, layout = _decode(extra, size, params, npys)
        check(arrays["images"].shape, arrays["labels"].shape, size)
        sha256 = str(idx.sha256(npys["labels"], after=arrays["images"]))
        _check_hash(extra, sha256)
    except (SourceRefusedError, IdxError, LayoutError) as error:
        raise ExtraDatasetError(extra.name, redacted(extra.source), str(error).removeprefix(f"{extra.source}: ")) from error
    return ExtraDataset(npys, Segment(extra.name, arrays["labels"].shape[0], sha256), layout)


def _fetch_recent(extra: ExtraParams, size: Sequence[int], params: FetchParams, radius: float, folder: Path) -> ExtraDataset:
    with sources.local(extra.source, folder, params) as path:
        found = recent_dataset.read(path, extra, params, radius, size, folder)
    parts = {}
    for split, arrays in found.arrays.items():
        check(arrays["images"].shape, arrays["labels"].shape, size)
        npys = {kind: folder / f"{split}_{kind}.npy" for kind in DIMENSIONS}
        sha256 = str(idx.sha256(npys["labels"], after=arrays["images"]))
        parts[split] = ExtraDataset(npys, Segment(extra.name, arrays["labels"].shape[0], sha256), found.layout)
    both = "".join(part.segment.sha256 for part in parts.values())
    _check_hash(extra, hashlib.sha256(both.encode()).hexdigest())
    return parts["train"]._replace(recent=parts["test"])


def _decode(
    extra: ExtraParams, size: Sequence[int], params: FetchParams, npys: dict[str, Path]
) -> tuple[dict[str, Hashed], str]:
    """The arrays, and the layout in words; none for uint8 arrays named images and labels, whose form is known."""
    if extra.images:
        return _decode_idx(extra, params, npys), ""
    if extra.npz is None:
        return _decode_layout(extra, size, params, npys)
    try:
        return _decode_npz(extra, params, npys), ""
    except MissingArrayError as lacking:  # it may have the arrays of another library, for example x_train
        with suppress(LayoutError):
            return _decode_layout(extra, size, params, npys)
        raise lacking


def _decode_layout(
    extra: ExtraParams, size: Sequence[int], params: FetchParams, npys: dict[str, Path]
) -> tuple[dict[str, Hashed], str]:
    folder = npys["images"].parent
    with sources.local(extra.source, folder, params) as path, TemporaryDirectory(dir=folder) as scratch:
        layout = layouts.recognise(path, Path(scratch), params)
        samples = chain.from_iterable(stream() for stream in layout.splits.values())
        found = conversion.convert(samples, params, Path(scratch) / "raw", size)
        arrays = {
            kind: idx.write(npys[kind], values.shape, [values.tobytes()])
            for kind, values in (("images", found.images), ("labels", found.labels))
        }
    return arrays, layout.kind


def check(images: Sequence[int], labels: Sequence[int], size: Sequence[int]) -> None:
    """Raise IdxError unless arrays of these shapes belong together and the images have the base's `size`."""
    if images[0] != labels[0]:
        raise IdxError("a label for each image", f"{images[0]:,} images and {labels[0]:,} labels")
    if tuple(images[1:]) != tuple(size):
        found, expected = ("x".join(map(str, each)) for each in (images[1:], size))
        raise IdxError(f"images of {expected}, as the training split has", found)


def _decode_npz(extra: ExtraParams, params: FetchParams, npys: dict[str, Path]) -> dict[str, Hashed]:
    name = str(extra.npz)
    with sources.opened(extra.source, name, params) as stream:
        if stream is None:
            raise SourceRefusedError(f"has no {name}")
        if isinstance(cast(object, stream), gzip.GzipFile):  # zipfile would decompress all of it to find its end
            raise IdxError("an npz file", "a gzip file")
        return npz.decode(stream, {kind: (DIMENSIONS[kind], npy) for kind, npy in npys.items()}, params.max_bytes)


def _decode_idx(extra: ExtraParams, params: FetchParams, npys: dict[str, Path]) -> dict[str, Hashed]:
    arrays = {}
    for kind, npy in npys.items():
        name = str(getattr(extra, kind))
        with sources.opened(extra.source, name, params) as stream:
            if stream is None:
                raise SourceRefusedError(f"has no {name}")
            try:
                arrays[kind] = idx.decode(stream, DIMENSIONS[kind], npy, params.max_bytes)
            except IdxError as error:
                raise SourceRefusedError(f"{name}: {error}") from error
    return arrays


def _check_hash(extra: ExtraParams, found: str) -> None:
    if extra.sha256 is None:
        console.echo("fetch", f"extra {extra.name} is not pinned: its SHA-256 is {found}")
    elif extra.sha256 != found:
        raise IdxError(f"content with SHA-256 {extra.sha256[:12]}…", f"{found[:12]}…")
