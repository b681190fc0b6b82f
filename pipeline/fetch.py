"""Stage fetch: sources -> verified arrays in data/raw.

What identifies the data is the SHA-256 of each IDX file's decompressed content, not where it came from.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from pipeline.core import console, datasets, files, sources
from pipeline.core.datasets import Decoded
from pipeline.core.errors import IdxError, NoSourceError, SourceRefusedError
from pipeline.core.params import FetchParams, FileParams, Params
from pipeline.core.paths import Paths
from pipeline.core.urls import redacted


class Fetched(NamedTuple):
    """The four files as decoded, by name, and what gave them, for a person to read."""

    files: dict[str, Decoded]
    origin: str


def fetch(params: FetchParams, folder: Path) -> Fetched:
    """Write each file of `params.files` to `folder` as `.npy`, from the first source that gives it right.

    A source that refuses or fails once is not asked again. Each refusal is printed.

    Raises:
        NoSourceError: no source gave a file; it lists every source with its reason.
    """
    refused: dict[str, str] = {}
    for source, reason in sources.unreachable(params.sources, params.timeout).items():
        _refuse(refused, source, reason)
    decoded, origins = {}, []
    for name in datasets.FILES:
        decoded[name], origin = _fetch_file(name, getattr(params.files, name), params, folder, refused)
        if origin not in origins:
            origins.append(origin)
    return Fetched(decoded, "from " + ", ".join(origins))


def _fetch_file(
    name: str, file: FileParams, params: FetchParams, folder: Path, refused: dict[str, str]
) -> tuple[Decoded, str]:
    missing: dict[str, str] = {}
    for source in params.sources:
        if source in refused:
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
            decoded = datasets.decode_idx(stream, dimensions, npy, params.max_bytes)
        except IdxError as error:
            raise SourceRefusedError(str(error)) from error
    if file.sha256 is None:
        console.say("fetch", f"{file.name} is not pinned: its SHA-256 is {decoded.sha256}")
    elif decoded.sha256 != file.sha256:
        raise SourceRefusedError(f"expected content with SHA-256 {file.sha256[:12]}…, found {decoded.sha256[:12]}…")
    return decoded


def _refuse(refused: dict[str, str], source: str, reason: str) -> None:
    refused[source] = reason
    console.say("fetch", f"refused {redacted(source)}: {reason}")


def in_place(params: FetchParams, folder: Path) -> Fetched | None:
    """The arrays already in `folder`, when every file is pinned and there with the pinned content; else None."""
    found = {}
    for name in datasets.FILES:
        npy, expected = folder / f"{name}.npy", getattr(params.files, name).sha256
        if expected is None or not npy.is_file() or datasets.idx_sha256(npy) != expected:
            return None
        found[name] = Decoded(datasets.shape(npy), expected)
    return Fetched(found, f"already in {folder}")


def run(params: Params, paths: Paths) -> str:
    fetched = in_place(params.fetch, paths.raw) or _fetch_into_place(params.fetch, paths.raw)
    shapes = {name: file.shape for name, file in fetched.files.items()}
    files.write_json(paths.manifest, datasets.manifest(fetched.files, params.fetch))
    train, height, width = shapes["train_images"]
    return f"{train:,} training and {shapes['test_images'][0]:,} test images of {height}x{width}, {fetched.origin}"


def _fetch_into_place(params: FetchParams, raw: Path) -> Fetched:
    """Fetch beside `raw` and move there only what is whole and agrees: what is in place stays if anything fails."""
    raw.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=raw.parent) as folder:
        fetched = fetch(params, Path(folder))
        datasets.check_shapes({name: file.shape for name, file in fetched.files.items()})
        for name in datasets.FILES:
            with files.replacing(raw / f"{name}.npy") as part:
                shutil.move(Path(folder) / f"{name}.npy", part)  # data/raw may be mounted from another disk
    return fetched


if __name__ == "__main__":
    sys.exit(console.run_stage("fetch", run))
