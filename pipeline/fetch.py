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
from typing import Any

from pipeline.core import console, files
from pipeline.core.errors import MissingInputError, UnusableInputError
from pipeline.core.fetch_params import FetchParams
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data import datasets, idx
from pipeline.data.datasets import Segment
from pipeline.data.idx import Hashed
from pipeline.ingestion import base_dataset, extra_datasets, sources
from pipeline.ingestion.base_dataset import Base
from pipeline.ingestion.extra_datasets import ExtraDataset


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
    return Base(paths.raw, arrays, _layouts(recorded).get(params.dataset, ""))


def _layouts(manifest: Mapping[str, Any] | None) -> Mapping[str, str]:
    """What was recognised, by the name of the data set; nothing for IDX files that params.yaml names."""
    found: Mapping[str, str] = (manifest or {}).get("layouts", {})
    return found


def manifest_in_place(params: FetchParams, recorded: Mapping[str, Any] | None, base: Base) -> dict[str, Any] | None:
    """The manifest of data/raw; None unless it holds `base`, the pinned sets of `params.extra`, and nothing else."""
    if any(extra.recent for extra in params.extra):  # their test images are files of their own
        return None
    npys = [base.folder / f"train_{kind}.npy" for kind in datasets.DIMENSIONS]
    rows = [segment.rows for segment in datasets.segments(recorded, "train")] if recorded else [idx.shape(npys[0])[0]]
    hashes = [idx.sha256(*npys, rows=each) for each in datasets.slices(rows)[1:]]
    if hashes != [extra.sha256 for extra in params.extra] or any(idx.shape(npy)[0] != sum(rows) for npy in npys):
        return None
    extra = [Segment(each.name, count, str(each.sha256)) for each, count in zip(params.extra, rows[1:], strict=True)]
    # All segments equal those of the recorded manifest, so its hashes of the whole arrays are valid too.
    whole = {name: Hashed(**file) for name, file in recorded["files"].items()} if recorded and extra else base.arrays
    return _manifest(params, base, whole, extra, _layouts(recorded))


def run(params: Params, paths: Paths) -> str:
    recorded = read_recorded(paths)
    base = base_in_place(params.fetch, paths, recorded)
    manifest, origin = base and manifest_in_place(params.fetch, recorded, base), f"already in {paths.raw}"
    if manifest is None:
        manifest, origin = _fetch_into_place(params.fetch, params.validate_.near_duplicate_distance, paths.raw, base)
    files.write_json(paths.manifest, manifest)
    for name in set(datasets.RECENT_FILES) - manifest["files"].keys():
        (paths.raw / f"{name}.npy").unlink(missing_ok=True)
    train, height, width = manifest["files"]["train_images"]["shape"]
    test = manifest["files"]["test_images"]["shape"][0]
    added = train - manifest["parts"]["train"][0]["rows"]
    more = f" ({added:,} of them extra)" if added else ""
    recent = sum(segment.rows for segment in datasets.segments(manifest, datasets.RECENT))
    held = f" and {recent:,} recent ones" if recent else ""
    return f"{train:,} training{more} and {test:,} test images{held} of {height}x{width}, {origin}"


def _fetch_into_place(params: FetchParams, radius: float, raw: Path, base: Base | None) -> tuple[dict[str, Any], str]:
    """Fetch to a folder beside `raw`, and move files to `raw` only when all are complete and their shapes match.

    Args:
        radius: of near-duplicates, which a held-out test split keeps together.
        base: the base if it is in place and only the extra data sets are fetched, else None.

    Returns:
        The manifest, and the origin of the base for the console.
    """
    raw.mkdir(parents=True, exist_ok=True)
    probe = sources.Probe(params.timeout)
    origin = f"already in {raw}"
    with files.scratch(raw) as folder:
        if base is None:
            base, used = base_dataset.fetch(params, radius, probe, folder)
            origin = f"from {used}"
        size = base.arrays["train_images"].shape[1:]
        added = [
            extra_datasets.fetch(extra, size, params, radius, probe, folder / f"extra-{number}")
            for number, extra in enumerate(params.extra)
        ]
        recent = [each.recent for each in added if each.recent is not None]
        whole = base.arrays | _join(base, added, folder) | _join_recent(recent, folder)
        kinds = {each.segment.name: each.layout for each in added}
        manifest = _manifest(params, base, whole, [each.segment for each in added], kinds, [each.segment for each in recent])
        for name in (*datasets.FILES, *datasets.RECENT_FILES):
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


def _join_recent(recent: Sequence[ExtraDataset], folder: Path) -> dict[str, Hashed]:
    """Write the test images of all recent data sets to `folder`, one set after the other."""
    if not recent:
        return {}
    return {
        f"{datasets.RECENT}_{kind}": idx.concatenate(
            [(each.npys[kind], idx.ALL) for each in recent], folder / f"{datasets.RECENT}_{kind}.npy"
        )
        for kind in datasets.DIMENSIONS
    }


def _manifest(
    params: FetchParams,
    base: Base,
    whole: Mapping[str, Hashed],
    extra: Sequence[Segment],
    kinds: Mapping[str, str],
    recent: Sequence[Segment] = (),
) -> dict[str, Any]:
    """The manifest; `kinds` are the layouts that were recognised, by the name of the data set."""
    train, test = (base.segment(split, params.dataset) for split in ("train", "test"))
    names = [segment.name for segment in extra]
    layouts = {params.dataset: base.layout} | {name: kinds.get(name, "") for name in names}
    segments = {"train": [train, *extra], "test": [test]} | ({datasets.RECENT: list(recent)} if recent else {})
    weights = {each.name: each.chosen_weight for each in params.extra if each.chosen_weight != 1}
    return datasets.manifest(whole, segments, params, layouts, weights)


if __name__ == "__main__":
    sys.exit(console.run_stage("fetch", run, __doc__))
