"""The results of `make chaos`: one row per fault in bench/reliability.md, one per cause in docs/reliability.md."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench import report
from tests.imports import ROOT

RESULTS = ROOT / "bench" / "reliability.md"
SUMMARY = ROOT / "docs" / "reliability.md"
HEADER = ["fault", "tries", "survived", "lost"]
SUMMARY_HEADER = ["cause", "cases", "tries", "survived", "lost"]

_TABLE = re.compile(r"(?:^Measured by .*\n\n)?(?:^\|.*\n)+", re.MULTILINE)
_COUNTS = re.compile(r"\| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", re.MULTILINE)


class Entry(NamedTuple):
    """A fault of one `cause`: the number of tries, of tries that survived, and of things lost."""

    cause: str
    fault: str
    tries: int
    survived: int
    lost: int

    def cells(self) -> list[str]:
        return [self.fault, *(f"{count:,}" for count in (self.tries, self.survived, self.lost))]


def tables(entries: Sequence[Entry]) -> dict[str, str]:
    """Return a Markdown table for each cause, in the order of the entries."""
    stamp, by_cause = report.machine("make chaos"), dict[str, list[Entry]]()
    for entry in entries:
        by_cause.setdefault(entry.cause, []).append(entry)
    return {
        cause: f"{stamp}\n\n{report.table(HEADER, [entry.cells() for entry in group])}\n" for cause, group in by_cause.items()
    }


def write(new: Mapping[str, str], results: Path = RESULTS, summary: Path = SUMMARY) -> None:
    """Replace the table of each cause in `results` and the table in `summary`. Keep all other text.

    Keep the rows of other faults if the old table is of the same day and machine: `ONLY=` runs a single test file.
    """
    head, sections = split(results.read_text(encoding="utf-8"))
    for cause, table in new.items():
        text = sections.get(cause, "")
        sections[cause] = f"{_TABLE.sub('', text).rstrip()}\n\n{_merge(_TABLE.search(text), table)}\n"
    whole = head.rstrip() + "".join(f"\n\n## {cause}\n\n{text.strip()}" for cause, text in sections.items())
    results.write_text(f"{whole}\n", encoding="utf-8")
    shown = _TABLE.sub(lambda _: f"{summarise(whole)}\n", summary.read_text(encoding="utf-8"), count=1)
    summary.write_text(shown, encoding="utf-8")


def split(text: str) -> tuple[str, dict[str, str]]:
    """Return the text before the first section, and the text of each section by its title."""
    head, *sections = re.split(r"(?m)^## ", text)
    return head, {title: body for title, _, body in (section.partition("\n") for section in sections)}


def summarise(results: str) -> str:
    """Return a Markdown table: for each section of bench/reliability.md, the number of faults and the sums of their counts."""
    rows = []
    for cause, text in split(results)[1].items():
        counts = [[int(count.replace(",", "")) for count in row] for row in re.findall(_COUNTS, text)]
        link = f"[{cause}](#{cause.lower().replace(' ', '-')})"
        rows.append([link, f"{len(counts):,}", *(f"{sum(column):,}" for column in zip(*counts, strict=True))])
    return report.table(SUMMARY_HEADER, rows)


def _merge(old: re.Match[str] | None, table: str) -> str:
    """Insert the rows of other faults from the old table into the new one, if both are of the same day and machine."""
    if not old or old[0].partition("\n")[0] != table.partition("\n")[0]:
        return table
    faults = {_fault(row) for row in table.splitlines()}
    head, rule, rows = table.partition("| --- | --- | --- | --- |\n")
    kept = [row for row in old[0].splitlines(keepends=True) if row.startswith("| ") and _fault(row) not in faults]
    return f"{head}{rule}{''.join(kept)}{rows}"


def _fault(row: str) -> str:
    """Return the fault of a row, without a count in brackets such as ` (2 as DVC wrote its own file)`."""
    return re.sub(r" \(\d.*\)$", "", row.split(" | ")[0])
