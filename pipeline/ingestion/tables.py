"""CSV tables: a label and a pixel per column (Kaggle's digit recognizer), or names of image files and their labels."""

import csv
import math
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

import numpy as np

from pipeline.core import files
from pipeline.core.errors import first_line
from pipeline.data import folders
from pipeline.ingestion.image_folders import decode, is_image
from pipeline.ingestion.samples import ALL, Layout, LayoutError, Sample, split_of, split_of_file

Size = tuple[int, int]

_LABELS = ("label", "labels", "class", "class_name", "target", "category", "y")
_FEWEST_PIXELS = 4
_PEEKED = 200  # rows
_BLOCK = 1 << 22  # bytes read at a time
_POSITION = re.compile(r"(\d+)x(\d+)")


class Table(NamedTuple):
    """A CSV file: its split, its columns (numbered if it has no header), first rows as text, and what separates the values."""

    path: Path
    split: str
    columns: list[str]
    first: list[list[str]]
    headed: bool
    delimiter: str

    def values(self, column: int) -> list[str]:
        """The first values of a column."""
        return [row[column] for row in self.first if column < len(row)]


def is_table(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith((".csv", ".tsv"))


def recognise(paths: Sequence[Path], root: Path, scratch: Path, size: Size | None) -> Layout:
    """The layout of CSV files in `root`. Files without labels, such as Kaggle's `test.csv`, are left out.

    Args:
        scratch: a folder for decompressed files.
        size: `fetch.size`, which decides the shape of pixel columns if given.
    """
    tables = [_open(path, split_of_file(path, root) or ALL, scratch) for path in paths]
    index = _index(root)
    readable = {table.path: _streams(table, index, size) for table in tables}
    labelled = [table for table in tables if readable[table.path]]
    if not labelled:
        raise _unlabelled(tables[0], index)
    kinds = {found[0] for table in labelled if (found := readable[table.path])}
    streams: dict[str, Any] = {}
    for table in labelled:
        for split, stream in (readable[table.path] or ("", {}))[1].items():
            if split in streams:
                raise LayoutError(table.path, "one table for each split, named train, test or validation", "another one")
            streams[split] = stream
    left = [table.path.name for table in tables if not readable[table.path]]
    notes = (f"{len(left)} table(s) without labels: {folders.listed(left)}",) if left else ()
    return Layout(" and ".join(sorted(kinds)), streams, notes=notes)


def _open(path: Path, split: str, scratch: Path) -> Table:
    if files.is_gzip(path):
        plain = Path(mkdtemp(dir=scratch)) / path.name.removesuffix(".gz")
        with files.open_decompressed(path) as source, plain.open("wb") as target:
            shutil.copyfileobj(source, target)
        path = plain
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            line = text.readline()
            delimiter = max(",;\t", key=line.count)
            text.seek(0)
            rows = [row for row, _ in zip(csv.reader(text, delimiter=delimiter), range(_PEEKED), strict=False) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise LayoutError(path, "a CSV table in UTF-8", first_line(error)) from error
    if len(rows) < 2:
        raise LayoutError(path, "a table with rows", "none")
    headed = not all(map(_is_number, rows[0]))
    columns = rows[0] if headed else [str(number) for number in range(len(rows[0]))]
    return Table(path, split, columns, rows[1:] if headed else rows, headed, delimiter)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _streams(table: Table, index: Mapping[str, Path], size: Size | None) -> tuple[str, dict[str, Any]] | None:
    """The kind of the table and its images by split; None if it has no labels."""
    label = _label_column(table)
    files = [number for number in range(len(table.columns)) if _find(index, (table.values(number) or [""])[0])]
    if files and label is None:
        others = [number for number in range(len(table.columns)) if number not in files]
        label = others[0] if len(others) == 1 else None
    if label is None:
        return None
    if files:
        return "a CSV of file names and labels", _named(table, files[0], label, index)
    if len(table.columns) <= _FEWEST_PIXELS:
        return None
    return "a CSV of labels and pixels", {table.split: partial(_pixel_samples, table, label, _size(table, label, size))}


def _label_column(table: Table) -> int | None:
    if table.headed:
        named = [column.strip().casefold() for column in table.columns]
        return next((named.index(name) for name in _LABELS if name in named), None)
    return 0 if len(set(table.values(0))) > 1 else len(table.columns) - 1


def _unlabelled(table: Table, index: Mapping[str, Path]) -> LayoutError:
    columns = f"the column(s) {folders.listed(table.columns, 5)}"
    if _label_column(table) is None:
        return LayoutError(table.path, f"a column named {', '.join(_LABELS)}", columns)
    beside = "none of the image files" if index else "no image files beside it"
    return LayoutError(table.path, "a column of pixels each, or one with the names of image files", f"{columns} and {beside}")


def _size(table: Table, label: int, size: Size | None) -> Size:
    """Height and width of the images of a table with a pixel per column."""
    names = [column for number, column in enumerate(table.columns) if number != label]
    if size and math.prod(size) == len(names):
        return size
    positions = [match for name in names if (match := _POSITION.fullmatch(name.strip()))]
    if len(positions) == len(names):
        height, width = (max(int(match[axis]) for match in positions) for axis in (1, 2))
        if height * width == len(names):
            return height, width
    side = math.isqrt(len(names))
    if side * side != len(names):
        raise LayoutError(table.path, "a square number of pixel columns, or their shape as fetch.size", str(len(names)))
    return side, side


def _pixel_samples(table: Table, label: int, size: Size) -> Iterator[Sample]:
    """Read the pixels as float32, which holds what integers and fractions need; the conversion checks their range."""
    import pyarrow as pa
    from pyarrow import csv as arrow

    names = [str(number) for number in range(len(table.columns))]
    types = {name: pa.string() if number == label else pa.float32() for number, name in enumerate(names)}
    row = 1 + table.headed
    try:
        reader = arrow.open_csv(
            table.path,
            arrow.ReadOptions(block_size=_BLOCK, column_names=names, skip_rows=int(table.headed)),
            arrow.ParseOptions(delimiter=table.delimiter),
            arrow.ConvertOptions(column_types=types),
        )
        for batch in reader:
            labels = batch.column(label).to_pylist()
            columns = [column for number, column in enumerate(batch.columns) if number != label]
            pixels = np.stack([column.to_numpy(zero_copy_only=False) for column in columns], axis=1)
            for text, values in zip(labels, pixels, strict=True):
                yield Sample(f"{table.path.name} line {row}", _label(table, text, row), partial(values.reshape, size))
                row += 1
    except pa.ArrowException as error:
        raise LayoutError(table.path, f"numbers in {len(names)} columns of each row", first_line(error)) from error


def _label(table: Table, text: str | None, row: int) -> str:
    if not text or not text.strip():
        raise LayoutError(f"{table.path.name} line {row}", f"a label in column {table.columns[0]}", "none")
    return text.strip()


def _index(root: Path) -> dict[str, Path]:
    """The image files in `root` by path, by file name and by its stem; ambiguous names are left out."""
    paths = [path for path in folders.walk(root) if is_image(path)] if root.is_dir() else []
    found: dict[str, Path] = {}
    seen: set[str] = set()
    for path in paths:
        for short in (path.name, path.stem):
            if short in seen:
                found.pop(short, None)
            else:
                found[short] = path
            seen.add(short)
    return found | {path.relative_to(root).as_posix(): path for path in paths}


def _find(index: Mapping[str, Path], name: str) -> Path | None:
    spelled = name.strip().replace("\\", "/").removeprefix("./")
    return index.get(spelled) or index.get(spelled.rpartition("/")[2])


def _named(table: Table, file: int, label: int, index: Mapping[str, Path]) -> dict[str, Any]:
    """The images of a table of file names by split, which a column `split` or the name of the table says."""
    named = [column.strip().casefold() for column in table.columns]
    column = named.index("split") if "split" in named else None
    if column is None:
        return {table.split: partial(_named_samples, table, (file, label), index)}
    spellings = {row[column] for row in _rows(table)}
    splits = {spelling: split_of(spelling) for spelling in sorted(spellings)}
    if unknown := [spelling for spelling, split in splits.items() if split is None]:
        raise LayoutError(table.path, "train, test or validation in column split", repr(unknown[0]))
    return {
        str(split): partial(_named_samples, table, (file, label), index, (column, spelling))
        for spelling, split in splits.items()
    }


def _rows(table: Table) -> Iterator[list[str]]:
    with table.path.open(encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text, delimiter=table.delimiter)
        if table.headed:
            next(reader)
        for row in reader:
            if row and len(row) != len(table.columns):
                where = f"{table.path.name} line {reader.line_num}"
                raise LayoutError(where, f"{len(table.columns)} values", str(len(row)))
            if row:
                yield row


def _named_samples(
    table: Table, columns: tuple[int, int], index: Mapping[str, Path], only: tuple[int, str] | None = None
) -> Iterator[Sample]:
    file, label = columns
    for number, row in enumerate(_rows(table), 1 + table.headed):
        if only is None or row[only[0]] == only[1]:
            path = _find(index, row[file])
            if path is None:
                where = f"{table.path.name} line {number}"
                raise LayoutError(where, "the name of an image file beside the table", repr(row[file]))
            yield Sample(row[file], _label(table, row[label], number), partial(decode, path))
