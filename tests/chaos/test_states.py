"""What each command does in each state of champion and store: the table of docs/promotion.md, and combinations of its rows."""

import itertools
import random
import re
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import mlflow
import pytest

from bench import report
from pipeline import promote, register, rollback
from pipeline.core.errors import PipelineError
from pipeline.tracking import registry
from pipeline.tracking.connection import connected
from tests.champions import NAME, another, copy, lose, served, variant
from tests.chaos.conftest import LONG, Chaos
from tests.conftest import Repository
from tests.imports import ROOT
from tests.test_promote import challenge, command

KIND = "Champion"
RANDOM = random.Random(0)
COLUMNS = ("verify", "serve", "register", "promote", "promote another", "rollback")
HEADER = (
    "what the store lost",
    "`make verify`",
    "`make serve`",
    "`make register`",
    "`make promote` of the champion's model",
    "`make promote` of another model",
    "`make rollback`",
)

# What a cell promises: the exit code, and what is printed.
OUTCOMES = {
    "agrees": (0, "and alias, file, run and record agree"),
    "names it": (1, r"`make promote`"),
    "serves": (0, ""),
    "refuses": (1, r"expected .*, found "),
    "knows it": (0, "registered before"),
    "registers it again": (0, r"version [13] is challenger$"),
    "already champion": (0, "version 2 is already champion"),
    "restores it": (0, r"restore +version \d is champion, the same model, because"),
    "decides": (0, r"promote +version \d becomes champion|refuse +version \d is refused"),
    "restores it, decides": (0, r"(?s)restore +version \d is champion.*version \d (becomes champion|is refused)"),
    "asks for `FIRST=1`": (1, r"(?s)expected a champion .*, found.*`make promote FIRST=1`"),
    "earlier champion": (0, r"rollback +version \d is champion again"),
    "withdraws version 1": (0, "version 2 is champion again, in place of version 1"),
}


class Row(NamedTuple):
    """A state, the losses that lead to it, and what each command of COLUMNS does in it."""

    state: str
    losses: tuple[str, ...]
    cells: tuple[str, ...]


LOST = ("names it", "refuses", "registers it again", "restores it", "asks for `FIRST=1`", "earlier champion")
TABLE = (
    Row("nothing", ("nothing",), ("agrees", "serves", "knows it", "already champion", "decides", "earlier champion")),
    Row(
        "its alias",
        ("alias",),
        ("names it", "refuses", "knows it", "restores it", "restores it, decides", "earlier champion"),
    ),
    Row(
        "nothing, but its alias was moved to version 1",
        ("moved alias",),
        ("names it", "serves", "knows it", "decides", "decides", "withdraws version 1"),
    ),
    Row("its version", ("version",), LOST),
    Row("its files", ("files", "altered", "purged model"), LOST),
    Row("the files of all versions", ("artifacts",), (*LOST[:-1], "refuses")),
    Row(
        "its run",
        ("run", "purged run"),
        ("names it", "serves", "registers it again", "restores it", "decides", "earlier champion"),
    ),
    Row("all versions", ("model", "store"), ("names it", "refuses", "registers it again", "decides", "decides", "refuses")),
)


def act(column: str, repository: Repository) -> tuple[int, str]:
    """Run the command of a column as its verb does; return its exit code and what it prints."""
    actions: dict[str, Callable[[], Any]] = {
        "verify": lambda: command(repository, verify=True),
        "serve": lambda: download_champion(repository),
        "register": lambda: print(register.run(repository.params, repository.paths)),
        "promote": lambda: command(repository, promote),
        "promote first": lambda: command(repository, promote, first=True),
        "rollback": lambda: command(repository, rollback),
    }
    with redirect_stdout(StringIO()) as printed:
        try:
            code = int(actions[column.removesuffix(" another")]() or 0)
        except PipelineError as error:
            code = 1
            print(f"error: {error}")
    return code, printed.getvalue().strip()


def download_champion(repository: Repository) -> None:
    """Get the champion like `make serve`, which then answers requests with it."""
    with connected(repository.params, repository.paths), TemporaryDirectory() as folder:
        registry.download(registry.named(NAME, registry.CHAMPION), Path(folder))


def prepare(root: Path, losses: Sequence[str], champions_root: Path, *, other_model: bool = False) -> Repository:
    """A tree, with the champion's model or another one that is registered, and a store after the losses."""
    repository = copy(champions_root, root, store="store" not in losses)
    client = mlflow.MlflowClient(repository.paths.tracking_uri)
    if other_model:
        repository = variant(repository, 0.4)
        challenge(repository, another)
    for loss in losses:
        lose(loss, repository, client)
    return repository


def is_right(code: int, repository: Repository) -> bool:
    """Whether a command that succeeded has left a champion that users can download, with the hash of its version."""
    if code:
        return True
    with connected(repository.params, repository.paths):
        champion = registry.aliased(NAME, registry.CHAMPION)
    return champion is not None and served(repository) == champion.hashes.onnx


CELLS = [(row, column) for row in TABLE for column in COLUMNS][:: 1 if LONG else 5]


@pytest.mark.parametrize(("row", "column"), CELLS, ids=[f"{row.state}-{column}" for row, column in CELLS])
def test_each_command_does_what_the_table_says(
    row: Row, column: str, champions_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chaos: Chaos
) -> None:
    monkeypatch.delenv("CI", raising=False)
    cell, losses = row.cells[COLUMNS.index(column)], row.losses if LONG else row.losses[:1]
    for loss in losses:
        repository = prepare(tmp_path / loss, [loss], champions_root, other_model=column == "promote another")

        code, printed = act(column, repository)

        expected, pattern = OUTCOMES[cell]
        assert code == expected, printed
        assert re.search(pattern, printed), printed
        assert column in ("register", "serve") or is_right(code, repository)
    label = HEADER[COLUMNS.index(column) + 1]
    chaos.count(KIND, f"the store lost {row.state}: {label} {cell}", len(losses), len(losses))


COMBINATIONS = [
    (*(loss for loss in losses if loss != "nothing"), *(["another model"] if other else []))
    for *losses, other in itertools.product(
        ("nothing", "run", "purged run"), ("nothing", "files", "altered"), ("nothing", "alias", "moved alias"), (False, True)
    )
]
SAMPLE = COMBINATIONS if LONG else RANDOM.sample(COMBINATIONS, 4)


@pytest.mark.parametrize("state", SAMPLE, ids=[" and ".join(state) or "nothing" for state in SAMPLE])
def test_no_state_is_a_dead_end(
    state: tuple[str, ...], champions_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chaos: Chaos
) -> None:
    monkeypatch.delenv("CI", raising=False)
    columns = ("register", "promote", "rollback") if LONG else (RANDOM.choice(("promote", "rollback")),)
    survived = 0
    for column in columns:
        losses = [loss for loss in state if loss != "another model"]
        repository = prepare(tmp_path / column, losses, champions_root, other_model="another model" in state)

        code, printed = act(column, repository)

        assert is_right(code, repository) or column == "register", printed
        assert printed
        assert act("register", repository)[0] == 0
        code, printed = act("promote", repository)
        if code:
            assert "FIRST=1" in printed
            code, printed = act("promote first", repository)
        assert code == 0, printed
        survived += served(repository) is not None
    lost = " and ".join(state) or "nothing"
    chaos.count(KIND, f"lost: {lost}; any command, then `make register` and `make promote`", len(columns), survived)


def test_the_table_of_the_documentation_is_this_one() -> None:
    rows = [[row.state, *row.cells] for row in TABLE]

    assert report.table(list(HEADER), rows).strip() in (ROOT / "docs" / "promotion.md").read_text(encoding="utf-8")
