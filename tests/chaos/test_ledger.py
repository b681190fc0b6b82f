"""The tables of `make chaos` replace those of the last run and keep the text around them; the summary adds them up."""

from pathlib import Path

import pytest

from tests.chaos import ledger
from tests.chaos.ledger import Entry


@pytest.fixture
def results(tmp_path: Path) -> Path:
    (tmp_path / "summary.md").write_text(
        "# Title\n\nFirst.\n\n| cause | cases |\n| --- | --- |\n| old | 1 |\n\n## Kills\n\nText.\n"
    )
    return tmp_path / "results.md"


def write(results: Path, *entries: Entry) -> None:
    ledger.write(ledger.tables(entries), results, results.with_name("summary.md"))


def test_a_table_replaces_the_one_in_its_section_and_keeps_the_text(results: Path) -> None:
    results.write_text("# Title\n\nFirst.\n\n## Kills\n\nA promise.\n\n## Disk\n\nAnother.\n")

    write(results, Entry("Kills", "SIGKILL in fetch", 1200, 1200, 0))
    write(results, Entry("Kills", "SIGKILL in fetch", 30, 29, 1), Entry("New", "a fault", 1, 1, 0))

    text = results.read_text()
    assert text.startswith("# Title\n\nFirst.\n\n## Kills\n\nA promise.\n\nMeasured by `make chaos` on 20")
    assert "| SIGKILL in fetch | 30 | 29 | 1 |\n\n## Disk\n\nAnother.\n\n## New\n\n" in text
    assert text.endswith("| a fault | 1 | 1 | 0 |\n")
    assert "1,200" not in text


def test_rows_of_the_same_day_and_machine_are_kept_and_older_ones_removed(results: Path) -> None:
    results.write_text(
        "# Title\n\n## Kills\n\nMeasured by `make chaos` on 1999-12-31: a machine.\n\n| fault | 1 |\n| old | 1 |\n"
    )

    for fault, tries in (("in fetch", 3), ("in train", 4), ("in fetch (2 of them late)", 5)):
        write(results, Entry("Kills", fault, tries, tries, 0))

    rows = [line for line in results.read_text().splitlines() if line.startswith("| ")]
    assert rows[2:] == ["| in train | 4 | 4 | 0 |", "| in fetch (2 of them late) | 5 | 5 | 0 |"]
    assert rows[0] == "| fault | tries | survived | lost |"


def test_the_summary_adds_up_the_faults_of_each_cause(results: Path) -> None:
    results.write_text("# Title\n")

    write(results, Entry("Killed processes", "one", 1200, 1200, 0), Entry("Killed processes", "two", 30, 29, 1))

    assert results.with_name("summary.md").read_text() == (
        "# Title\n\nFirst.\n\n| cause | cases | tries | survived | lost |\n| --- | --- | --- | --- | --- |\n"
        "| [Killed processes](#killed-processes) | 2 | 1,230 | 1,229 | 1 |\n\n## Kills\n\nText.\n"
    )


def test_the_summary_in_docs_matches_the_results_in_bench() -> None:
    assert ledger.summarise(ledger.RESULTS.read_text(encoding="utf-8")) in ledger.SUMMARY.read_text(encoding="utf-8")
