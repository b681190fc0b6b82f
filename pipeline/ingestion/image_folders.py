"""A folder per class, as torchvision's ImageFolder and Keras's image_dataset_from_directory read: `train/cat/1.png`."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from pipeline.data import folders, image_codec
from pipeline.ingestion.samples import ALL, Grey, Layout, LayoutError, Sample, natural_key, split_of

SUFFIXES = frozenset(
    (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)


def is_image(path: Path) -> bool:
    """Whether the name is that of an image file."""
    return path.suffix.lower() in SUFFIXES


def has_images(folder: Path) -> bool:
    """Whether image files lie directly in `folder`."""
    return any(path.is_file() and is_image(path) and not folders.holds_no_data(path.name) for path in folder.iterdir())


def recognise(root: Path) -> Layout | None:
    """The layout of `root`; None if no folder in it holds image files.

    Images are in the order of their file names, whatever their class, so that numbered files keep their order.
    """
    classes = _subfolders(root)
    splits = _splits(classes)
    if splits is None:
        splits = {ALL: root}
    found = {split: _files(folder) for split, folder in splits.items()}
    if not any(found.values()):
        return None
    if empty := [split for split, files in found.items() if not files]:
        raise LayoutError(root / splits[empty[0]].name, "a folder per class with image files", "none")
    others = [path for path in folders.walk(root) if not is_image(path)]
    loose = [path for folder in splits.values() for path in folder.iterdir() if path.is_file() and is_image(path)]
    notes = [
        _note(root, others, "that are no images by their names"),
        _note(root, loose, "in no class's folder"),
    ]
    streams = {split: partial(_samples, root, files) for split, files in found.items()}
    return Layout("a folder per class", streams, notes=tuple(filter(None, notes)))


def _note(root: Path, paths: list[Path], why: str) -> str:
    names = (path.relative_to(root).as_posix() for path in paths)
    return f"{len(paths):,} file(s) {why}: {folders.listed(names)}" if paths else ""


def _subfolders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not folders.holds_no_data(path.name)]


def _splits(subfolders: list[Path]) -> Mapping[str, Path] | None:
    """The folder of each split, if all `subfolders` are named as splits."""
    found = {split: folder for folder in subfolders if (split := split_of(folder.name))}
    return found if len(found) == len(subfolders) >= 1 and "train" in found else None


def _files(split: Path) -> list[tuple[str, str]]:
    """The image files below each class's folder, as (path, class)."""
    files = [(str(path), folder.name) for folder in _subfolders(split) for path in folders.walk(folder) if is_image(path)]
    return sorted(files, key=lambda file: (natural_key(Path(file[0]).name), natural_key(file[1]), file[0]))


def _samples(root: Path, files: list[tuple[str, str]]) -> Iterator[Sample]:
    for path, label in files:
        yield Sample(Path(path).relative_to(root).as_posix(), label, partial(decode, Path(path)))


def decode(path: Path) -> Grey:
    return image_codec.decode(path).pixels
