"""Faults that are really made to happen: a few times in `make test`, many times in `make chaos`, which prints the count."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos import ledger
from tests.chaos.ledger import Entry

LONG = os.environ.get("CHAOS", "0") not in ("", "0")


class Chaos:
    """How often to try, and what came of it."""

    def __init__(self, record: Callable[[str, Any], None]) -> None:
        self._record = record

    @staticmethod
    def tries(short: int, long: int) -> int:
        """`short` in `make test`, `long` in `make chaos`."""
        return long if LONG else short

    def count(self, kind: str, fault: str, tries: int, survived: int, lost: int = 0) -> None:
        """Enter a row of docs/reliability.md, section `kind`; fail unless all `tries` survived and nothing was lost."""
        self._record("chaos", list(Entry(kind, fault, tries, survived, lost)))
        assert (survived, lost) == (tries, 0), f"{fault}: {survived} of {tries} survived, {lost} lost"


@pytest.fixture
def chaos(record_property: Callable[[str, Any], None]) -> Chaos:
    return Chaos(record_property)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table, and put it into docs/reliability.md."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    properties = [entry for report in reports for entry in getattr(report, "user_properties", ()) if report.when == "call"]
    entries = [Entry(*value) for name, value in properties if name == "chaos"]
    if LONG and entries:
        found = ledger.tables(sorted(entries, key=lambda entry: entry.kind))
        for kind, table in found.items():
            terminalreporter.write_line(f"\n## {kind}\n\n{table}")
        ledger.put(found)
