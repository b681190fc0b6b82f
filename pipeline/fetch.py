"""Stage fetch: sources -> verified arrays in data/raw.

What identifies the data is the SHA-256 of each IDX file's decompressed content, not where it came from.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.core import console, files
from pipeline.core.errors import MissingInputError, UnusableInputError
from pipeline.core.params import FetchParams, FileParams, Params
from pipeline.core.paths import Paths
from pipeline.core.urls import redacted
from pipeline.data import datasets, idx
from pipeline.data.datasets import Part
from pipeline.data.errors import IdxError
from pipeline.data.idx import Decoded
from pipeline.ingestion import extra_datasets, sources
from pipeline.ingestion.errors import NoSourceError, SourceRefusedError


def fetch(params: FetchParams, probe: sources.Probe, folder: Path) -> str:
    """Write each file of `params.files` to `folder` as `.npy`, from the first source that gives it right; return which gave.

    A source that refuses or fails once is not asked again. Each refusal is printed.

    Raises:
        NoSourceError: no source gave a file; it lists every source with its reason.
        MismatchError: the files do not belong together.
    """
    refused: dict[str, str] = {}
    decoded, origins = {}, []
    for name in datasets.FILES:
        decoded[name], origin = _fetch_file(name, params, probe, folder, refused)
        if origin not in origins:
            origins.append(origin)
    datasets.check_shapes({name: file.shape for name, file in decoded.items()})
    return ", ".join(origins)


def _fetch_file(
    name: str, params: FetchParams, probe: sources.Probe, folder: Path, refused: dict[str, str]
) -> tuple[Decoded, str]:
    file: FileParams = getattr(params.files, name)
    coming = [*params.sources, *(extra.source for extra in params.extra)]
    missing: dict[str, str] = {}
    for source in params.sources:
        if source in refused:
            continue
        if reason := probe.refusal(source, coming):
            _refuse(refused, source, reason)
            continue
        try:
            decoded = _decode(source, name, file, params, folder / f"{name}.npy")
        except SourceRefusedError as error:
            _refuse(refused, source, f"{file.name}: {error}")
            continue
        if decoded is not None:
            return decoded, redacted(source)
        missing[source] = f"has no {file.name}"
    reasons = refused | missing
    raise NoSourceError(file.name, {redacted(source): reasons[source] for source in params.sources})


def _decode(source: str, name: str, file: FileParams, params: FetchParams, npy: Path) -> Decoded | None:
    dimensions = datasets.DIMENSIONS[name.partition("_")[2]]
    with sources.opened(source, file.name, params) as stream:
        if stream is None:
            return None
        try:
            decoded = idx.decode(stream, dimensions, npy, params.max_bytes)
        except IdxError as error:
            raise SourceRefusedError(str(error)) from error
    if file.sha256 is None:
        console.echo("fetch", f"{file.name} is not pinned: its SHA-256 is {decoded.sha256}")
    elif decoded.sha256 != file.sha256:
        raise SourceRefusedError(f"expected content with SHA-256 {file.sha256[:12]}…, found {decoded.sha256[:12]}…")
    return decoded


def _refuse(refused: dict[str, str], source: str, reason: str) -> None:
    refused[source] = reason
    console.echo("fetch", f"refused {redacted(source)}: {reason}")


def base_in_place(params: FetchParams, paths: Paths) -> int | None:
    """How many rows the base has in the training split in data/raw; None unless each of its files is pinned and there."""
    recorded = _recorded(paths)
    for name in datasets.FILES:
        npy, expected = paths.raw / f"{name}.npy", getattr(params.files, name).sha256
        rows = slice(recorded[0]) if recorded and name.startswith("train") else slice(None)
        if expected is None or not npy.is_file() or idx.sha256(npy, rows=rows) != expected:
            return None
    return recorded[0] if recorded else idx.shape(paths.raw / "train_images.npy")[0]


def all_in_place(params: FetchParams, paths: Paths, base: int) -> list[int] | None:
    """The rows of the base and of each set of `params.extra`; None unless they, pinned, are all that is in data/raw."""
    rows = _recorded(paths) or [base]
    images, labels = (paths.raw / f"train_{kind}.npy" for kind in datasets.DIMENSIONS)
    found = [idx.sha256(images, labels, rows=part) for part in datasets.slices(rows)[1:]]
    pinned = None not in found and found == [extra.sha256 for extra in params.extra]
    return rows if pinned and all(idx.shape(npy)[0] == sum(rows) for npy in (images, labels)) else None


def _recorded(paths: Paths) -> list[int]:
    try:
        return datasets.train_rows(paths)
    except (MissingInputError, UnusableInputError):
        return []


def run(params: Params, paths: Paths) -> str:
    base = base_in_place(params.fetch, paths)
    rows, origin = (all_in_place(params.fetch, paths, base) if base else None), f"already in {paths.raw}"
    if rows is None:
        rows, origin = _fetch_into_place(params.fetch, paths.raw, base)
    manifest = _describe(params.fetch, paths.raw, rows)
    files.write_json(paths.manifest, manifest)
    train, height, width = manifest["files"]["train_images"]["shape"]
    test, added = manifest["files"]["test_images"]["shape"][0], train - rows[0]
    more = f" ({added:,} of them extra)" if added else ""
    return f"{train:,} training{more} and {test:,} test images of {height}x{width}, {origin}"


def _fetch_into_place(params: FetchParams, raw: Path, base: int | None) -> tuple[list[int], str]:
    """Fetch beside `raw` and move there only what is whole and agrees: what is in place stays if anything fails.

    Args:
        base: how many rows in place are the base, which is not fetched again; None if it has to be.

    Returns:
        The rows of the base and of each further set, and what gave the base, for a person to read.
    """
    raw.mkdir(parents=True, exist_ok=True)
    probe = sources.Probe(params.timeout)
    with files.scratch(raw) as folder:
        origin = f"from {fetch(params, probe, folder)}" if base is None else f"already in {raw}"
        rows = _join(params, probe, raw if base else folder, slice(base), folder)
        for name in datasets.FILES:
            if (folder / f"{name}.npy").exists():
                with files.replacing(raw / f"{name}.npy") as part:
                    shutil.move(folder / f"{name}.npy", part)  # data/raw may be mounted from another disk
    return rows, origin


def _join(params: FetchParams, probe: sources.Probe, source: Path, base: slice, folder: Path) -> list[int]:
    """Write the rows `base` of the training split in `source`, followed by the further sets, to `folder`."""
    npys = {kind: source / f"train_{kind}.npy" for kind in datasets.DIMENSIONS}
    size = idx.shape(npys["images"])[1:]
    places = [folder / f"extra-{number}" for number in range(len(params.extra))]
    sets = [extra_datasets.fetch(extra, size, params, probe, place) for extra, place in zip(params.extra, places, strict=True)]
    for kind, npy in npys.items():
        whole = folder / f"{kind}.npy"
        shape = idx.concatenate([(npy, base), *((each[kind], slice(None)) for each in sets)], whole)
        whole.replace(folder / f"train_{kind}.npy")
    added = [idx.shape(each["labels"])[0] for each in sets]
    return [shape[0] - sum(added), *added]


def _describe(params: FetchParams, raw: Path, rows: Sequence[int]) -> dict[str, Any]:
    """The manifest of the arrays in `raw`, of whose training split the base and each further set have so many rows."""
    npys = {name: raw / f"{name}.npy" for name in datasets.FILES}
    names = [f"{params.dataset}-train", *(extra.name for extra in params.extra)]
    train, test = ([npys[f"{split}_{kind}"] for kind in datasets.DIMENSIONS] for split in ("train", "test"))
    parts = {
        "train": [
            Part(name, count, str(idx.sha256(*train, rows=part)))
            for name, count, part in zip(names, rows, datasets.slices(rows), strict=True)
        ],
        "test": [Part(f"{params.dataset}-test", idx.shape(test[1])[0], str(idx.sha256(*test)))],
    }
    return datasets.manifest(
        {name: Decoded(idx.shape(npy), str(idx.sha256(npy))) for name, npy in npys.items()}, parts, params
    )


if __name__ == "__main__":
    sys.exit(console.run_stage("fetch", run))
