"""Further training data (`fetch.extra`): one set of labelled images, from an .npz file or from two IDX files."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from pipeline.core import console
from pipeline.core.params import ExtraParams, FetchParams
from pipeline.core.urls import redacted
from pipeline.data import idx, npz
from pipeline.data.datasets import DIMENSIONS
from pipeline.data.errors import IdxError
from pipeline.data.idx import Decoded
from pipeline.ingestion import sources
from pipeline.ingestion.errors import ExtraDatasetError, SourceRefusedError


def fetch(extra: ExtraParams, size: Sequence[int], params: FetchParams, probe: sources.Probe, folder: Path) -> dict[str, Path]:
    """Write a set to `folder` as `images.npy` and `labels.npy`; return their paths by these two names.

    Args:
        size: height and width that its images must have.

    Raises:
        ExtraDatasetError: its source does not give it, it is not what the hash pins, or it does not fit the base.
    """
    folder.mkdir()
    paths = {kind: folder / f"{kind}.npy" for kind in DIMENSIONS}
    try:
        if reason := probe.refusal(extra.source, [other.source for other in params.extra]):
            raise SourceRefusedError(reason)
        decoded = _decode_npz(extra, params, paths) if extra.npz else _decode_idx(extra, params, paths)
        check(decoded["images"].shape, decoded["labels"].shape, size)
        _check_hash(extra, idx.sha256(*paths.values()))
    except (SourceRefusedError, IdxError) as error:
        raise ExtraDatasetError(extra.name, redacted(extra.source), str(error)) from error
    return paths


def check(images: Sequence[int], labels: Sequence[int], size: Sequence[int]) -> None:
    """Raise IdxError unless arrays of these shapes belong together, and to a base with images of `size`."""
    if images[0] != labels[0]:
        raise IdxError("a label for each image", f"{images[0]:,} images and {labels[0]:,} labels")
    if tuple(images[1:]) != tuple(size):
        found, expected = ("x".join(map(str, each)) for each in (images[1:], size))
        raise IdxError(f"images of {expected}, as the training split has", found)


def _decode_npz(extra: ExtraParams, params: FetchParams, paths: dict[str, Path]) -> dict[str, Decoded]:
    name = str(extra.npz)
    with sources.opened(extra.source, name, params) as stream:
        if stream is None:
            raise SourceRefusedError(f"has no {name}")
        if isinstance(
            cast(object, stream), gzip.GzipFile
        ):  # to find the end of which, all of it would have to be decompressed
            raise IdxError("an npz file", "a gzip file")
        return npz.decode(stream, {kind: (DIMENSIONS[kind], path) for kind, path in paths.items()}, params.max_bytes)


def _decode_idx(extra: ExtraParams, params: FetchParams, paths: dict[str, Path]) -> dict[str, Decoded]:
    decoded = {}
    for kind, path in paths.items():
        name = str(getattr(extra, kind))
        with sources.opened(extra.source, name, params) as stream:
            if stream is None:
                raise SourceRefusedError(f"has no {name}")
            try:
                decoded[kind] = idx.decode(stream, DIMENSIONS[kind], path, params.max_bytes)
            except IdxError as error:
                raise SourceRefusedError(f"{name}: {error}") from error
    return decoded


def _check_hash(extra: ExtraParams, found: str | None) -> None:
    if extra.sha256 is None:
        console.echo("fetch", f"extra {extra.name} is not pinned: its SHA-256 is {found}")
    elif extra.sha256 != found:
        raise IdxError(f"content with SHA-256 {extra.sha256[:12]}…", f"{str(found)[:12]}…")
