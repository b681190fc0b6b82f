"""An entry is appended to fetch.extra in any style, and every other byte of params.yaml stays."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.core import params
from pipeline.core.errors import InvalidParamsError
from pipeline.monitoring import extra_entry
from tests.conftest import Edit

ENTRY = {"name": "recent-2026-11-26", "source": "data/collected/recent-2026-11-26.npz", "kind": "recent", "test_share": 0}


def load(text: str) -> Any:
    return YAML(typ="safe").load(text)


@pytest.mark.parametrize(
    "extra",
    [
        "  extra: []\n\n",
        "  extra: []  # why\n\n",
        "  extra: null\n",
        "  extra:  # none yet\n",
        "  x: 1\n\n",
        "  extra:\n    - {name: a, source: b}\n\n",
        "  extra:\n  - {name: a, source: b}  # why\n    # tail\n\n",
        "  extra:\n    - name: a\n      source: b  # x\n  # y\n\n",
        "  extra: [{name: a, source: b}]  # k\n",
        "  extra:\n    - name: a\n      files: [b,\n        c]\n",
    ],
)
def test_the_entry_is_the_last_and_all_else_stays(extra: str) -> None:
    text = f"# first\nfetch:\n  dataset: mnist\n{extra}validate:\n  rows: 1  # last\n"

    after = extra_entry.appended(text, ENTRY)

    before = load(text)["fetch"].get("extra") or []
    assert load(after)["fetch"].pop("extra") == [*before, ENTRY]
    assert load(after)["validate"] == {"rows": 1}
    assert [line for line in text.splitlines() if "extra" not in line] == [
        line for line in after.splitlines() if "extra" not in line and "recent-" not in line
    ]
    assert all(
        comment in after for comment in ("# first", "# last", *(part for part in extra.split("\n") if "  #" in part[:4]))
    )
    assert extra_entry.appended(after, ENTRY) == after


def test_the_repository_s_parameters_take_it(edit: Edit) -> None:
    path = Path("params.yaml")
    before = path.read_text(encoding="utf-8")

    extra_entry.append(path, ENTRY)
    extra_entry.append(path, {**ENTRY, "name": "second"})

    assert [each.name for each in params.load(path).fetch.extra] == ["recent-2026-11-26", "second"]
    kept = [line for line in path.read_text(encoding="utf-8").splitlines() if "kind: recent," not in line]
    assert kept == before.replace("  extra: []", "  extra:").splitlines()


def test_parameters_that_would_be_wrong_are_not_written(edit: Edit) -> None:
    path = Path("params.yaml")
    before = path.read_text(encoding="utf-8")

    with pytest.raises(InvalidParamsError, match="name"):
        extra_entry.append(path, {**ENTRY, "name": "not a name"})

    assert path.read_text(encoding="utf-8") == before
