"""What looks wrong in the data today: ranked, in a table and on a contact sheet, for a person to decide."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from pipeline.core import files
from pipeline.data.datasets import Split
from pipeline.data.idx import Pixels
from pipeline.ingestion.conversion import Unreadable

# From the gravest to the mildest, with the largest share of a split that is no reason to ask. Label issues are the guess of a
# simple classifier: on hard data some percent are none.
_FLAGS = {
    "leaked": ("a test image, or nearly one", 0.0),
    "conflicting_label": ("repeats an image of another class", 0.0),
    "blank": ("one shade only", 0.0),
    "label_issue": ("probably of another class", 0.1),
}
_SHOWN, _COLUMNS, _TILE = 60, 10, 96  # images on the contact sheet, per row, and their side in pixels
_CAPTION = 14


class Issue(NamedTuple):
    """An image that looks wrong; `row` is its row in the split, -1 for a file that cannot be read."""

    kind: str
    split: str
    row: int
    label: str
    why: str


def find(tables: Mapping[str, pd.DataFrame], classes: Sequence[str], unreadable: Sequence[Unreadable]) -> list[Issue]:
    """All issues, the gravest first."""
    found = [Issue("unreadable", "", -1, each.name, each.reason) for each in unreadable]
    for kind, (why, _) in _FLAGS.items():
        for split, table in tables.items():
            flags = _flags(table, kind)
            found += [
                Issue(kind, split, int(row), classes[int(table["label"].iloc[row])], why) for row in np.flatnonzero(flags)
            ]
    return found


def _flags(table: pd.DataFrame, kind: str) -> "pd.Series[bool]":
    if kind == "blank":
        return table["minimum"] == table["maximum"]
    return table[kind] if kind in table else pd.Series(False, index=table.index)


def to_decide(tables: Mapping[str, pd.DataFrame], unreadable: Sequence[Unreadable]) -> list[str]:
    """The kinds of issues that need a person's decision, with their numbers; none if the data look sound."""
    lines = [f"{len(unreadable):,} file(s) that cannot be read: {unreadable[0].name} ..."] if unreadable else []
    for kind, (why, most) in _FLAGS.items():
        for split, table in tables.items():
            count = int(_flags(table, kind).sum())
            if count > most * len(table):
                lines.append(f"{count:,} {split} image(s), {kind.replace('_', ' ')}: {why}")
    return lines


def write(issues: Sequence[Issue], data: Mapping[str, Split], names: Mapping[tuple[str, int], str], folder: Path) -> None:
    """Write `issues.csv` and the contact sheet `issues.png` into `folder`."""
    rows = [
        (rank, each.kind, each.split, names.get((each.split, each.row), each.label if each.row < 0 else ""), each.row,
         "" if each.row < 0 else each.label, each.why)
        for rank, each in enumerate(issues, 1)
    ]  # fmt: skip
    header = ("rank", "kind", "split", "file or row of the source", "row", "class", "why")
    files.write_text(folder / "issues.csv", files.csv_text(header, rows))
    if shown := _shown(issues):
        sheet = _sheet([(data[each.split].images[each.row], f"{rank} {each.label}") for rank, each in shown])
        with files.replacing(folder / "issues.png") as part:
            sheet.save(part)


def _shown(issues: Sequence[Issue]) -> list[tuple[int, Issue]]:
    """The first issues of each kind, with their ranks."""
    kinds = list(dict.fromkeys(each.kind for each in issues if each.row >= 0))
    ranked = list(enumerate(issues, 1))
    return [pair for kind in kinds for pair in [pair for pair in ranked if pair[1].kind == kind][: _SHOWN // len(kinds)]]


def _sheet(tiles: Sequence[tuple[Pixels, str]]) -> Image.Image:
    """Images on a grid, each with its rank in the table and its class."""
    height = _TILE + _CAPTION
    sheet = Image.new("L", (_COLUMNS * _TILE, -(-len(tiles) // _COLUMNS) * height), 40)
    draw = ImageDraw.Draw(sheet)
    for number, (pixels, caption) in enumerate(tiles):
        left, top = number % _COLUMNS * _TILE, number // _COLUMNS * height
        image = Image.fromarray(np.ascontiguousarray(pixels))
        image = image.resize(_within(image.size), Image.Resampling.NEAREST)
        sheet.paste(image, (left + 2, top + 2))
        draw.text((left + 2, top + _TILE), " ".join(caption.split())[:15], fill=255)
    return sheet


def _within(size: tuple[int, int]) -> tuple[int, int]:
    factor = (_TILE - 4) / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def lines(kinds: Sequence[str], folder: Path) -> Iterator[str]:
    """What to print before asking for a decision."""
    yield "some of the data look wrong:"
    yield from (f"  {kind}" for kind in kinds)
    yield f"{folder / 'issues.csv'} lists them, the gravest first; {folder / 'issues.png'} shows them"
    yield "clean up and rerun, or take the data as they are: `make adopt ... ACCEPT=1`, or --accept"
