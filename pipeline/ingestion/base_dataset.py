"""The base data set: four IDX files from the first source that has each, or a data set in another layout from one source."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from pipeline.core import console
from pipeline.core.errors import PipelineError
from pipeline.core.fetch_params import FetchParams, FileParams
from pipeline.core.urls import redacted
from pipeline.data import datasets, idx
from pipeline.data.datasets import Segment
from pipeline.data.errors import IdxError
from pipeline.data.idx import Hashed
from pipeline.ingestion import layout_dataset, sources
from pipeline.ingestion.errors import NoSourceError, SourceRefusedError
from pipeline.ingestion.samples import LayoutError


class Base(NamedTuple):
    """The data set without the extra ones: its arrays by name, each at the start of a `.npy` file in `folder`.

    `layout` says in words what was recognised; it is empty for the four IDX files that `fetch.files` names.
    """

    folder: Path
    arrays: dict[str, Hashed]
    layout: str = ""

    def file(self, name: str) -> tuple[Path, slice]:
        """The file that holds an array, and its rows in that file."""
        return self.folder / f"{name}.npy", slice(self.arrays[name].shape[0])

    def segment(self, split: str, dataset: str) -> Segment:
        images, (labels, rows) = self.arrays[f"{split}_images"], self.file(f"{split}_labels")
        return Segment(f"{dataset}-{split}", images.shape[0], str(idx.sha256(labels, rows=rows, after=images)))


class _MissingFileError(PipelineError):
    """No source for IDX files has the file of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def fetch(params: FetchParams, radius: float, probe: sources.Probe, folder: Path) -> tuple[Base, str]:
    """Write the four arrays to `folder` as `.npy`; also return the sources. Each refusal is printed.

    The sources are tried in their order. Consecutive ones with IDX files may each provide some of the files.

    Args:
        radius: of near-duplicates, which a held-out test split keeps together.

    Raises:
        NoSourceError: no source has a file; the message lists every source with its reason.
        MismatchError: the shapes of the files do not match.
    """
    refused: dict[str, str] = {}
    lacking = ""
    for has_idx, group in groupby(params.sources, lambda source: sources.names_idx(source, params)):
        tried = list(group)
        try:
            if has_idx:
                return _fetch_files(tried, params, probe, folder, refused)
            if found := _fetch_layouts(tried, params, radius, probe, folder, refused):
                return found
        except _MissingFileError as error:
            lacking = error.name
    reasons = {redacted(source): refused[source] for source in params.sources}
    raise NoSourceError(lacking or params.dataset, reasons)


def _fetch_files(
    tried: Sequence[str], params: FetchParams, probe: sources.Probe, folder: Path, refused: dict[str, str]
) -> tuple[Base, str]:
    arrays, origins = {}, []
    for name in datasets.FILES:
        arrays[name], origin = _fetch_file(name, tried, params, probe, folder, refused)
        origins.append(origin)
    datasets.check_shapes({name: array.shape for name, array in arrays.items()})
    return Base(folder, arrays), ", ".join(dict.fromkeys(origins))


def _fetch_layouts(
    tried: Sequence[str], params: FetchParams, radius: float, probe: sources.Probe, folder: Path, refused: dict[str, str]
) -> tuple[Base, str] | None:
    for source in tried:
        try:
            if reason := probe.refusal(source, params.sources):
                raise SourceRefusedError(reason)
            with sources.local(source, folder, params) as path:
                found = layout_dataset.read(path, params, radius, folder)
            for name, array in found.arrays.items():
                _check_hash(getattr(params.files, name), name, array)
        except (SourceRefusedError, LayoutError) as error:
            _refuse(refused, source, str(error).removeprefix(f"{source}: "))
            continue
        echo(found, source)
        return Base(folder, found.arrays, found.kind), redacted(source)
    return None


def echo(found: layout_dataset.ReadDataset, source: str) -> None:
    """Say what was recognised at a source, and what was left out."""
    console.echo("fetch", f"{redacted(source)} is {found.kind}")
    if found.unreadable:
        console.echo("fetch", f"left out {len(found.unreadable):,} file(s) that cannot be read: {found.unreadable[0].name} …")
    for note in found.notes:
        console.echo("fetch", f"left out {note}")


def _fetch_file(
    name: str, tried: Sequence[str], params: FetchParams, probe: sources.Probe, folder: Path, refused: dict[str, str]
) -> tuple[Hashed, str]:
    file: FileParams = getattr(params.files, name)
    upcoming = [*params.sources, *(extra.source for extra in params.extra)]
    missing: dict[str, str] = {}
    for source in tried:
        if source in refused:
            continue
        if reason := probe.refusal(source, upcoming):
            _refuse(refused, source, reason)
            continue
        try:
            array = _decode(source, name, file, params, folder / f"{name}.npy")
        except SourceRefusedError as error:
            _refuse(refused, source, f"{file.name}: {error}")
            continue
        if array is not None:
            return array, redacted(source)
        missing[source] = f"has no {file.name}"
    refused |= missing
    raise _MissingFileError(file.name)


def _decode(source: str, name: str, file: FileParams, params: FetchParams, npy: Path) -> Hashed | None:
    dimensions = datasets.DIMENSIONS[name.partition("_")[2]]
    with sources.opened(source, file.name, params) as stream:
        if stream is None:
            return None
        try:
            array = idx.decode(stream, dimensions, npy, params.max_bytes)
        except IdxError as error:
            raise SourceRefusedError(str(error)) from error
    _check_hash(file, file.name, array)
    return array


def _check_hash(file: FileParams, name: str, array: Hashed) -> None:
    if file.sha256 is None:
        console.echo("fetch", f"{name} is not pinned: its SHA-256 is {array.sha256}")
    elif array.sha256 != file.sha256:
        raise SourceRefusedError(f"expected content with SHA-256 {file.sha256[:12]}…, found {array.sha256[:12]}…")


def _refuse(refused: dict[str, str], source: str, reason: str) -> None:
    refused[source] = reason
    console.echo("fetch", f"refused {redacted(source)}: {reason}")
