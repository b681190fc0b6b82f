from pathlib import Path

import pytest

from pipeline.core.errors import MissingInputError, UnusableInputError
from pipeline.data import history


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.csv"


def test_the_file_has_a_row_per_epoch_and_keeps_float32_precision(path: Path) -> None:
    loss = 0.1 + 2**-24

    history.write(path, [{"loss": 1.5, "val_loss": loss}, {"loss": 1.25, "val_loss": 2.0}])

    header, first, second = path.read_text().splitlines()
    assert (header, second) == ("epoch,loss,val_loss", "2,1.25,2")
    assert float(first.split(",")[2]) == pytest.approx(loss, abs=1e-9)


def test_reading_returns_what_was_written(path: Path) -> None:
    epochs = [{"loss": 1.5, "accuracy": 0.25}, {"loss": 0.125, "accuracy": 0.5}]
    history.write(path, epochs)
    before = path.read_bytes()

    assert history.read(path) == epochs
    history.write(path, history.read(path))
    assert path.read_bytes() == before


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"history\.csv"):
        history.read(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"epoch,loss\n",
        b"epoch,loss\n2,0.5\n",
        b"loss\n0.5\n",
        b"epoch,loss\n1,low\n",
        b"epoch,loss\n1\n",
        b"a,b\n\xff,1\n",
    ],
    ids=["empty", "no epochs", "no epoch 1", "no numbers", "text", "short row", "not text"],
)
def test_a_file_that_is_not_a_history_is_refused(content: bytes, path: Path) -> None:
    path.write_bytes(content)

    with pytest.raises(UnusableInputError, match=r"history\.csv: expected a"):
        history.read(path)
