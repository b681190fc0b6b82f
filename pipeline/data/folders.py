"""List the files of a folder that hold data, and name those that file managers and archivers left there."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

_LEFT_BY_PROGRAMS = {"thumbs.db", "desktop.ini", "__macosx"}
_LISTED = 3


def holds_no_data(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or written by a file manager: `.DS_Store`, `._a.png`, `Thumbs.db`."""
    return name.startswith(".") or name.casefold() in _LEFT_BY_PROGRAMS


def walk(folder: Path) -> Iterator[Path]:
    """Yield the data files in `folder` and below, without the files that `holds_no_data` names."""
    for above, below, names in os.walk(folder, followlinks=True):
        below[:] = sorted(name for name in below if not holds_no_data(name))
        yield from (Path(above, name) for name in sorted(names) if not holds_no_data(name))


def left_out(folder: Path) -> list[str]:
    """The files and folders in `folder` and below that hold no data, relative to it. Not those within a hidden folder."""
    found = []
    for above, below, names in os.walk(folder):
        found += [Path(above, name).relative_to(folder).as_posix() for name in (*below, *names) if holds_no_data(name)]
        below[:] = [name for name in below if not holds_no_data(name)]
    return sorted(found)


def listed(names: Iterable[str], most: int = _LISTED) -> str:
    """The first names of many: `a, b, c …`."""
    first = [name for name, _ in zip(names, range(most + 1), strict=False)]
    return ", ".join(first[:most]) + (" …" if len(first) > most else "")
