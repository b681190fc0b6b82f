"""What `make chaos` finds: how often each fault was made to happen, and what came of it."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench import report
from tests.imports import ROOT

RELIABILITY = ROOT / "docs" / "reliability.md"
HEADER = ["fault", "tries", "survived", "lost"]

_TABLE = re.compile(r"(?:^Printed by .*\n\n)?(?:^\|.*\n)+", re.MULTILINE)


class Entry(NamedTuple):
    """A fault of the section `kind`: of so many `tries` so many `survived`, and so many things were `lost` in all."""

    kind: str
    fault: str
    tries: int
    survived: int
    lost: int

    def cells(self) -> list[str]:
        return [self.fault, *(f"{count:,}" for count in (self.tries, self.survived, self.lost))]


def by_kind(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """The entries by their section, in the order in which they came."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.kind, []).append(entry)
    return found


def tables(entries: Sequence[Entry]) -> dict[str, str]:
    """A table in Markdown for each section."""
    stamp = report.machine("make chaos")
    return {
        kind: f"{stamp}\n\n{report.table(HEADER, [entry.cells() for entry in of_kind])}\n"
        for kind, of_kind in by_kind(entries).items()
    }


def put(found: Mapping[str, str], path: Path = RELIABILITY) -> None:
    """End each section with its table, in place of the one it has; the text around it stays.

    Of a table of the same day and machine, the rows of other faults stay: files may be run one by one.
    """
    head, *sections = re.split(r"(?m)^## ", path.read_text(encoding="utf-8"))
    texts = {title: text for title, _, text in (section.partition("\n") for section in sections)}
    for kind, table in found.items():
        text = texts.get(kind, "")
        texts[kind] = f"{_TABLE.sub('', text).rstrip()}\n\n{_merged(_TABLE.search(text), table)}\n"
    whole = head.rstrip() + "".join(f"\n\n## {title}\n\n{text.strip()}" for title, text in texts.items())
    path.write_text(f"{whole}\n", encoding="utf-8")


def _merged(known: re.Match[str] | None, table: str) -> str:
    """The new table, after the rows of the known one that it does not have; without those where they are of another run."""
    if not known or known[0].partition("\n")[0] != table.partition("\n")[0]:
        return table
    faults = {_name(row) for row in table.splitlines()}
    head, rule, rows = table.partition("| --- | --- | --- | --- |\n")
    kept = [row for row in known[0].splitlines(keepends=True) if row.startswith("| ") and _name(row) not in faults]
    return f"{head}{rule}{''.join(kept)}{rows}"


def _name(row: str) -> str:
    """The fault that a row is about, without what it says in brackets of how many of the tries."""
    return re.sub(r" \(\d.*\)$", "", row.split(" | ")[0])
