"""The tables of docs/reliability.md: each in its section, in place of the last, with the text around it left alone."""

from pathlib import Path

from tests.chaos import ledger
from tests.chaos.ledger import Entry


def test_a_table_takes_the_place_of_the_one_in_its_section_and_text_stays(tmp_path: Path) -> None:
    path = tmp_path / "reliability.md"
    path.write_text("# Title\n\nFirst.\n\n## Kills\n\nA promise.\n\n## Disk\n\nAnother.\n")

    ledger.put(ledger.tables([Entry("Kills", "SIGKILL in fetch", 1200, 1200, 0)]), path)
    ledger.put(ledger.tables([Entry("Kills", "SIGKILL in fetch", 30, 29, 1), Entry("New", "a fault", 1, 1, 0)]), path)

    text = path.read_text()
    assert text.startswith("# Title\n\nFirst.\n\n## Kills\n\nA promise.\n\nPrinted by `make chaos` on 20")
    assert "| SIGKILL in fetch | 30 | 29 | 1 |\n\n## Disk\n\nAnother.\n\n## New\n\n" in text
    assert text.endswith("| a fault | 1 | 1 | 0 |\n")
    assert "1,200" not in text


def test_rows_of_the_same_day_and_machine_stay_and_older_ones_go(tmp_path: Path) -> None:
    path = tmp_path / "reliability.md"
    path.write_text("# Title\n\n## Kills\n\nPrinted by `make chaos` on 1999-12-31: a machine.\n\n| fault | 1 |\n| old | 1 |\n")

    for fault, tries in (("in fetch", 3), ("in train", 4), ("in fetch (2 of them late)", 5)):
        ledger.put(ledger.tables([Entry("Kills", fault, tries, tries, 0)]), path)

    rows = [line for line in path.read_text().splitlines() if line.startswith("| ")]
    assert rows[2:] == ["| in train | 4 | 4 | 0 |", "| in fetch (2 of them late) | 5 | 5 | 0 |"]
    assert rows[0] == "| fault | tries | survived | lost |"
