"""Tests that cause real faults: a few in `make test`, many in `make chaos`, which records the results."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.champions import champions_root
from tests.chaos import ledger
from tests.chaos.ledger import Entry

__all__ = ["champions_root"]

LONG = os.environ.get("CHAOS", "0") not in ("", "0")


class Chaos:
    """Decide how often to cause a fault, and record the result."""

    def __init__(self, record: Callable[[str, Any], None]) -> None:
        self._record = record

    @staticmethod
    def tries(short: int, long: int) -> int:
        """`short` in `make test`, `long` in `make chaos`."""
        return long if LONG else short

    def count(self, cause: str, fault: str, tries: int, survived: int, lost: int = 0) -> None:
        """Record a row of bench/reliability.md in section `cause`; fail unless all tries survived and nothing was lost."""
        self._record("chaos", list(Entry(cause, fault, tries, survived, lost)))
        assert (survived, lost) == (tries, 0), f"{fault}: {survived} of {tries} survived, {lost} lost"


@pytest.fixture
def chaos(record_property: Callable[[str, Any], None]) -> Chaos:
    return Chaos(record_property)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """After `make chaos`, print the tables and write them to bench/reliability.md and docs/reliability.md."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    properties = [entry for report in reports for entry in getattr(report, "user_properties", ()) if report.when == "call"]
    entries = [Entry(*value) for name, value in properties if name == "chaos"]
    if LONG and entries:
        tables = ledger.tables(sorted(entries, key=lambda entry: entry.cause))
        for cause, table in tables.items():
            terminalreporter.write_line(f"\n## {cause}\n\n{table}")
        ledger.write(tables)
