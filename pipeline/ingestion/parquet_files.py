"""Parquet as the Hugging Face hub serves it: a column of images (bytes and path), one of labels; one file or shards."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.core.errors import first_line
from pipeline.data import image_codec, parquet_images
from pipeline.ingestion.samples import ALL, Grey, Layout, LayoutError, Sample, natural_key, split_of_file

_MAGIC = b"PAR1"
_ROWS = 1024  # at a time
_LABELS = ("label", "labels", "fine_label", "class", "target", "y")


class _Columns(NamedTuple):
    image: str
    label: str
    names: tuple[str, ...]  # of the classes, in the order of the labels; empty if the file has none


def is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == _MAGIC


def recognise(paths: Sequence[Path], root: Path) -> Layout:
    """The layout of Parquet files in `root`; the names of the files, or of their folders, say the split."""
    splits: dict[str, list[Path]] = {}
    for path in sorted(paths, key=lambda path: natural_key(str(path))):
        splits.setdefault(split_of_file(path, root) or ALL, []).append(path)
    if ALL in splits and len(splits) > 1:
        raise LayoutError(splits[ALL][0], "train, test or validation in the name", "none, unlike in the other files")
    columns = _columns(paths[0])
    streams = {split: partial(_samples, files, columns) for split, files in splits.items()}
    return Layout("Parquet of images and labels", streams, columns.names)


def _open(path: Path) -> Any:
    from pyarrow import ArrowException, parquet

    try:
        return parquet.ParquetFile(path)
    except (ArrowException, OSError) as error:
        raise LayoutError(path, "a complete Parquet file", first_line(error)) from error


def _columns(path: Path) -> _Columns:
    with _open(path) as file:
        schema, metadata = file.schema_arrow, file.schema_arrow.metadata or {}
    image = parquet_images.image_column(schema)
    if image is None:
        raise LayoutError(path, "a column of images (bytes, or a struct with bytes)", _listed(schema.names))
    label = next((name for name in _LABELS if name in schema.names and name != image), None)
    if label is None:
        others = [name for name in schema.names if name != image]
        if len(others) != 1:
            raise LayoutError(path, f"a column named {' or '.join(_LABELS[:2])}", _listed(schema.names))
        label = others[0]
    return _Columns(image, label, _names(metadata.get(b"huggingface", b"{}"), label))


def _listed(names: Sequence[str]) -> str:
    return f"the column(s) {', '.join(names[:10])}" if names else "no columns"


def _names(metadata: bytes, label: str) -> tuple[str, ...]:
    """The class names that the `datasets` library stores: `{"info": {"features": {"label": {"names": [...]}}}}`."""
    try:
        feature = json.loads(metadata)["info"]["features"][label]
        return tuple(map(str, feature.get("names") or ()))
    except (ValueError, KeyError, TypeError, AttributeError):
        return ()


def _samples(paths: Sequence[Path], columns: _Columns) -> Iterator[Sample]:
    from pyarrow import ArrowException

    for path in paths:
        row = 0
        try:
            with _open(path) as file:
                for batch in file.iter_batches(_ROWS, columns=[columns.image, columns.label]):
                    images, labels = (batch.column(name).to_pylist() for name in (columns.image, columns.label))
                    for image, label in zip(images, labels, strict=True):
                        name = f"{path.name} row {row}"
                        yield Sample(
                            name, _label(label, columns.names, name), partial(_decode, parquet_images.content(image), name)
                        )
                        row += 1
        except (ArrowException, OSError, KeyError) as error:
            raise LayoutError(path, f"columns {columns.image} and {columns.label}", first_line(error)) from error


def _label(value: Any, names: Sequence[str], where: str) -> str:
    if isinstance(value, int) and names:
        if not 0 <= value < len(names):
            raise LayoutError(where, f"a label of 0 to {len(names) - 1}", str(value))
        return names[value]
    if value is None or isinstance(value, float | list | dict):
        raise LayoutError(where, "a label that is an integer or text", str(value))
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _decode(content: bytes | None, where: str) -> Grey:
    if content is None:
        raise LayoutError(where, "the bytes of an image", "only a path: save the data set with its images embedded")
    return image_codec.decode(BytesIO(content)).pixels
