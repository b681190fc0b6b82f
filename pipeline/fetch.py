"""Fetch the data set and store it as verified arrays in data/raw.

The SHA-256 of each file's decompressed content identifies the data, not the source it came from.
Files that are already in place and match params.yaml are kept.

Example:
    python -m pipeline.fetch
"""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.core import console, files
from pipeline.core.errors import MissingInputError, UnusableInputError
from pipeline.core.fetch_params import FetchParams, FileParams
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.core.urls import redacted
from pipeline.data import datasets, idx
from pipeline.data.datasets import Segment
from pipeline.data.errors import IdxError
from pipeline.data.idx import Hashed
from pipeline.ingestion import extra_datasets, sources
from pipeline.ingestion.errors import NoSourceError, SourceRefusedError
from pipeline.ingestion.extra_datasets import ExtraDataset


class Base(NamedTuple):
    """The data set without the extra ones: its arrays by name, each at the start of a `.npy` file in `folder`."""

    folder: Path
    arrays: dict[str, Hashed]

    def file(self, name: str) -> tuple[Path, slice]:
        """The file that holds an array, and its rows in that file."""
        return self.folder / f"{name}.npy", slice(self.arrays[name].shape[0])

    def segment(self, split: str, dataset: str) -> Segment:
        images, (labels, rows) = self.arrays[f"{split}_images"], self.file(f"{split}_labels")
        return Segment(f"{dataset}-{split}", images.shape[0], str(idx.sha256(labels, rows=rows, after=images)))


def fetch_base(params: FetchParams, probe: sources.Probe, folder: Path) -> tuple[Base, str]:
    """Write each file of `params.files` to `folder` as `.npy`, from the first source that has it; also return the sources.

    A refused source is not tried again. Each refusal is printed.

    Raises:
        NoSourceError: no source has a file; the message lists every source with its reason.
        MismatchError: the shapes of the files do not match.
    """
    refused: dict[str, str] = {}
    arrays, origins = {}, []
    for name in datasets.FILES:
        arrays[name], origin = _fetch_file(name, params, probe, folder, refused)
        origins.append(origin)
    datasets.check_shapes({name: array.shape for name, array in arrays.items()})
    return Base(folder, arrays), ", ".join(dict.fromkeys(origins))


def _fetch_file(
    name: str, params: FetchParams, probe: sources.Probe, folder: Path, refused: dict[str, str]
) -> tuple[Hashed, str]:
    file: FileParams = getattr(params.files, name)
    upcoming = [*params.sources, *(extra.source for extra in params.extra)]
    missing: dict[str, str] = {}
    for source in params.sources:
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
    reasons = refused | missing
    raise NoSourceError(file.name, {redacted(source): reasons[source] for source in params.sources})


def _decode(source: str, name: str, file: FileParams, params: FetchParams, npy: Path) -> Hashed | None:
    dimensions = datasets.DIMENSIONS[name.partition("_")[2]]
    with sources.opened(source, file.name, params) as stream:
        if stream is None:
            return None
        try:
            array = idx.decode(stream, dimensions, npy, params.max_bytes)
        except IdxError as error:
            raise SourceRefusedError(str(error)) from error
    if file.sha256 is None:
        console.echo("fetch", f"{file.name} is not pinned: its SHA-256 is {array.sha256}")
    elif array.sha256 != file.sha256:
        raise SourceRefusedError(f"expected content with SHA-256 {file.sha256[:12]}…, found {array.sha256[:12]}…")
    return array


def _refuse(refused: dict[str, str], source: str, reason: str) -> None:
    refused[source] = reason
    console.echo("fetch", f"refused {redacted(source)}: {reason}")


def read_recorded(paths: Paths) -> Mapping[str, Any] | None:
    """The manifest of an earlier run; None if it is missing or damaged."""
    try:
        return datasets.read_manifest(paths)
    except (MissingInputError, UnusableInputError):
        return None


def base_in_place(params: FetchParams, paths: Paths, recorded: Mapping[str, Any] | None) -> Base | None:
    """The base in data/raw; None unless each of its files is pinned and present."""
    base_rows = slice(datasets.segments(recorded, "train")[0].rows) if recorded else idx.ALL
    arrays = {}
    for name in datasets.FILES:
        npy, pinned = paths.raw / f"{name}.npy", getattr(params.files, name).sha256
        if pinned is None or not npy.is_file():
            return None
        array = idx.hash_rows(npy, base_rows if name.startswith("train") else idx.ALL)
        if array is None or array.sha256 != pinned:
            return None
        arrays[name] = array
    return Base(paths.raw, arrays)


def manifest_in_place(params: FetchParams, recorded: Mapping[str, Any] | None, base: Base) -> dict[str, Any] | None:
    """The manifest of data/raw; None unless it holds `base`, the pinned sets of `params.extra`, and nothing else."""
    npys = [base.folder / f"train_{kind}.npy" for kind in datasets.DIMENSIONS]
    rows = [segment.rows for segment in datasets.segments(recorded, "train")] if recorded else [idx.shape(npys[0])[0]]
    hashes = [idx.sha256(*npys, rows=each) for each in datasets.slices(rows)[1:]]
    if hashes != [extra.sha256 for extra in params.extra] or any(idx.shape(npy)[0] != sum(rows) for npy in npys):
        return None
    extra = [Segment(each.name, count, str(each.sha256)) for each, count in zip(params.extra, rows[1:], strict=True)]
    # All segments equal those of the recorded manifest, so its hashes of the whole arrays are valid too.
    whole = {name: Hashed(**file) for name, file in recorded["files"].items()} if recorded and extra else base.arrays
    return _manifest(params, base, whole, extra)


def run(params: Params, paths: Paths) -> str:
    recorded = read_recorded(paths)
    base = base_in_place(params.fetch, paths, recorded)
    manifest, origin = base and manifest_in_place(params.fetch, recorded, base), f"already in {paths.raw}"
    if manifest is None:
        manifest, origin = _fetch_into_place(params.fetch, paths.raw, base)
    files.write_json(paths.manifest, manifest)
    train, height, width = manifest["files"]["train_images"]["shape"]
    test = manifest["files"]["test_images"]["shape"][0]
    added = train - manifest["parts"]["train"][0]["rows"]
    more = f" ({added:,} of them extra)" if added else ""
    return f"{train:,} training{more} and {test:,} test images of {height}x{width}, {origin}"


def _fetch_into_place(params: FetchParams, raw: Path, base: Base | None) -> tuple[dict[str, Any], str]:
    """Fetch to a folder beside `raw`, and move files to `raw` only when all are complete and their shapes match.

    Args:
        base: the base if it is in place and only the extra data sets are fetched, else None.

    Returns:
        The manifest, and the origin of the base for the console.
    """
    raw.mkdir(parents=True, exist_ok=True)
    probe = sources.Probe(params.timeout)
    origin = f"already in {raw}"
    with files.scratch(raw) as folder:
        if base is None:
            base, used = fetch_base(params, probe, folder)
            origin = f"from {used}"
        size = base.arrays["train_images"].shape[1:]
        added = [
            extra_datasets.fetch(extra, size, params, probe, folder / f"extra-{number}")
            for number, extra in enumerate(params.extra)
        ]
        whole = base.arrays | _join(base, added, folder)
        manifest = _manifest(params, base, whole, [each.segment for each in added])
        for name in datasets.FILES:
            if (folder / f"{name}.npy").exists():
                with files.replacing(raw / f"{name}.npy") as part:
                    shutil.move(folder / f"{name}.npy", part)  # data/raw may be mounted from another disk
    return manifest, origin


def _join(base: Base, added: Sequence[ExtraDataset], folder: Path) -> dict[str, Hashed]:
    """Write the training split, the base followed by the extra data sets, to `folder`, unless it is already there."""
    if not added and base.folder == folder:
        return {}
    joined = {}
    for kind in datasets.DIMENSIONS:
        name, npy = f"train_{kind}", folder / f"{kind}.npy"
        joined[name] = idx.concatenate([base.file(name), *((extra.npys[kind], idx.ALL) for extra in added)], npy)
        npy.replace(folder / f"{name}.npy")
    return joined


def _manifest(params: FetchParams, base: Base, whole: Mapping[str, Hashed], extra: Sequence[Segment]) -> dict[str, Any]:
    train, test = (base.segment(split, params.dataset) for split in ("train", "test"))
    return datasets.manifest(whole, {"train": [train, *extra], "test": [test]}, params)


if __name__ == "__main__":
    sys.exit(console.run_stage("fetch", run, __doc__))
