"""What the measurements rest on: sections of the results, and a record of the same network."""

from pathlib import Path
from typing import Any

import pytest

from bench import record, report
from bench.rows import Row
from bench.turns import ratio
from pipeline.core import params
from tests.conftest import Edit
from tests.imports import ROOT


def test_a_section_is_put_in_place_of_the_one_of_its_title(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "results.md"
    for title, body in (("One", "first\n"), ("Two", "| a |\n| - |\n"), ("One", "again\n\nand more\n"), ("Three", "last\n")):
        report.put(title, body, path)

    assert path.read_text().endswith("## One\n\nagain\n\nand more\n\n## Two\n\n| a |\n| - |\n\n## Three\n\nlast\n")
    assert "first" in capsys.readouterr().out


@pytest.mark.parametrize(("found", "reached"), [(0.9, False), (1.0, True), (1.1, True)])
def test_a_row_says_whether_its_mark_is_reached(found: float, reached: bool) -> None:
    assert Row("this", "that", found, least=1).reached is reached
    assert Row("this", "that", 2 - found, most=1).reached is reached


def test_a_ratio_is_the_median_over_rounds_and_not_of_medians() -> None:
    assert ratio({"a": [1, 20, 3], "b": [1, 10, 1]}, "a", "b") == 2


def test_the_record_is_of_the_same_network(edit: Edit) -> None:
    changes: dict[str, Any] = record.overrides()

    changed = edit(changes)

    shipped = params.load(ROOT / "params.yaml")
    assert changed.model == shipped.model
    assert changed.train != shipped.train
    assert changed.model_copy(update={"train": shipped.train}) == shipped
