"""The sections of bench/results.md, and the parameters of the record."""

from pathlib import Path
from typing import Any

import pytest

from bench import record, report
from bench.interleave import ratio
from bench.rows import Row
from pipeline.core import params
from tests.conftest import Edit
from tests.imports import ROOT


def test_a_section_replaces_the_one_with_its_title(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "results.md"
    for title, body in (("One", "first\n"), ("Two", "| a |\n| - |\n"), ("One", "again\n\nand more\n"), ("Three", "last\n")):
        report.put(title, body, path)

    assert path.read_text().endswith("## One\n\nagain\n\nand more\n\n## Two\n\n| a |\n| - |\n\n## Three\n\nlast\n")
    assert "first" in capsys.readouterr().out


@pytest.mark.parametrize(("value", "met"), [(0.9, False), (1.0, True), (1.1, True)])
def test_a_row_says_whether_its_target_is_met(value: float, met: bool) -> None:
    assert Row("this", "that", value, least=1).met is met
    assert Row("this", "that", 2 - value, most=1).met is met


def test_a_ratio_is_the_median_of_ratios_not_the_ratio_of_medians() -> None:
    assert ratio({"a": [1, 20, 3], "b": [1, 10, 1]}, "a", "b") == 2


def test_the_record_changes_only_the_training(edit: Edit) -> None:
    changes: dict[str, Any] = record.overrides()

    changed = edit(changes)

    shipped = params.load(ROOT / "params.yaml")
    assert changed.model == shipped.model
    assert changed.train != shipped.train
    assert changed.model_copy(update={"train": shipped.train}) == shipped
