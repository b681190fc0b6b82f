"""Recognise in which layout somebody has their labelled images, by looking at the files."""

from pathlib import Path

from pipeline.core.errors import PipelineError
from pipeline.core.fetch_params import FetchParams
from pipeline.data import folders
from pipeline.ingestion import archives, array_files, image_folders, parquet_files, tables
from pipeline.ingestion.samples import Layout, LayoutError

_KNOWN = "four IDX files, a folder per class, a CSV with labels, an npz or Parquet file of images, or an archive of these"
_DEEPEST = 20  # folders that only hold another one


def recognise(source: Path, scratch: Path, params: FetchParams) -> Layout:
    """The layout of `source`, a file or folder. What has to be unpacked is unpacked into the empty folder `scratch`.

    Raises:
        LayoutError: it is in no known layout, or something in it is wrong.
    """
    try:
        return _recognise(source, scratch, params, "")
    except (LayoutError, FileNotFoundError):
        raise
    except PipelineError as error:
        raise LayoutError(source, _KNOWN, str(error)) from error


def _recognise(source: Path, scratch: Path, params: FetchParams, within: str) -> Layout:
    if source.is_file() and archives.is_archive(source):
        unpacked = scratch / "unpacked"
        archives.unpack(source, unpacked, params.max_bytes)
        if not unpacked.is_dir():
            raise LayoutError(source, "files in the archive", "none")
        return _recognise(unpacked, scratch, params, f", in {source.name}")
    root = _inner(source) if source.is_dir() else source.parent
    files = list(folders.walk(root)) if source.is_dir() else [source]
    if source.is_dir() and len(files) == 1 and not within and archives.is_archive(files[0]):
        return _recognise(files[0], scratch, params, within)
    layout = _of_files(files, root, scratch, params) or (image_folders.recognise(root) if source.is_dir() else None)
    if layout is None:
        found = folders.listed(path.relative_to(root).as_posix() for path in files)
        raise LayoutError(source, _KNOWN, found or "an empty folder")
    hidden = folders.left_out(root) if source.is_dir() else []
    note = (f"{len(hidden)} hidden file(s) or folder(s): {folders.listed(hidden)}",) if hidden else ()
    return layout._replace(kind=f"{layout.kind}{within}", notes=(*layout.notes, *note))


def _inner(folder: Path) -> Path:
    """Descend while the data are in one folder below, which archives often have: `cats.zip` unpacks to `cats/cats/`."""
    for _ in range(_DEEPEST):
        below = [path for path in folder.iterdir() if not folders.holds_no_data(path.name)]
        inner = [path for path in below if path.is_dir()]
        if len(inner) != 1 or image_folders.has_images(inner[0]) or any(map(_holds_data, below)):
            return folder
        folder = inner[0]
    return folder


def _holds_data(path: Path) -> bool:
    """Whether `path` is a file that a layout consists of."""
    return path.is_file() and (
        image_folders.is_image(path)
        or tables.is_table(path)
        or path.suffix == ".npz"
        or parquet_files.is_parquet(path)
        or archives.is_archive(path)
        or array_files.idx_kind(path) is not None
    )


def _of_files(files: list[Path], root: Path, scratch: Path, params: FetchParams) -> Layout | None:
    """The layout of array files, Parquet files or tables, in this order of preference; None if there are none."""
    others = [path for path in files if not image_folders.is_image(path)]
    if parquet := [path for path in others if parquet_files.is_parquet(path)]:
        return parquet_files.recognise(parquet, root)
    if kinds := {path: kind for path in others if (kind := array_files.idx_kind(path))}:
        return array_files.recognise_idx(kinds, root, scratch, params.max_bytes)
    if arrays := [path for path in others if path.suffix == ".npz"]:
        return array_files.recognise_npz(arrays[0], scratch, params.max_bytes)
    if csvs := [path for path in others if tables.is_table(path)]:
        return tables.recognise(csvs, root, scratch, params.size)
    return None
