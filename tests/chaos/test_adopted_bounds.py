"""The bounds that adopt derives from MNIST let other batches of MNIST pass, and stop poisoned ones. For `make chaos` alone."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.adoption import dataset, params_file
from pipeline.core import params as parameters
from pipeline.core.params import Params
from pipeline.data.datasets import Split
from tests.chaos.conftest import LONG, Chaos
from tests.chaos.test_poison import POISONS, Data, Poison, broken
from tests.conftest import Repository, small_repository
from tests.imports import ROOT

KIND = "Bounds that adopt derives"
TRAIN, TEST = 20_000, 3_300
Rows = npt.NDArray[np.int64]

pytestmark = [pytest.mark.skipif(not LONG, reason="CHAOS=1 runs it"), pytest.mark.usefixtures("without_pages")]


def drawn(mnist: Data, rows: Rows) -> Data:
    """A training and a test split of these images."""
    images, labels = (np.concatenate([getattr(mnist[split], kind) for split in ("train", "test")]) for kind in Split._fields)
    train, test = np.sort(rows[:TRAIN]), np.sort(rows[TRAIN : TRAIN + TEST])
    return {"train": Split(images[train], labels[train]), "test": Split(images[test], labels[test])}


@pytest.fixture(scope="module")
def order(mnist: Data) -> Rows:
    return np.random.default_rng(0).permutation(sum(len(split.labels) for split in mnist.values()))


@pytest.fixture(scope="module")
def bounds(mnist: Data, order: Rows, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of params.yaml, adopted from a third of the images."""
    root = tmp_path_factory.mktemp("adopted")
    data = drawn(mnist, order)
    arrays = {f"{axis}_{name}": array for name, split in data.items() for axis, array in zip("xy", split, strict=True)}
    np.savez(root / "mnist.npz", **arrays)
    params = parameters.load(ROOT / "params.yaml")
    asked = dataset.Request(str(root / "mnist.npz"), "mnist", None, 0.15, accept=False)
    (root / "scratch").mkdir()
    with dataset.opened(asked, params, root / "scratch") as found:
        chosen = [choice for choice in found.choices if choice.key.startswith("validate.")]
    return params_file.edited((ROOT / "params.yaml").read_text(encoding="utf-8"), chosen)


def checked(root: Path, data: Data, bounds: str) -> list[str]:
    """The expectations that `data` break."""
    root.mkdir()
    repository = small_repository(root, data)
    adopted: Params = parameters.check(parameters.parse(bounds.encode(), root / "params.yaml"), root / "params.yaml")
    return broken(Repository(repository.params.model_copy(update={"validate_": adopted.validate_}), repository.paths))


def test_other_batches_of_the_same_kind_pass(mnist: Data, order: Rows, bounds: str, chaos: Chaos, tmp_path: Path) -> None:
    tries, rest = 100, order[TRAIN + TEST :]
    passed = 0
    for seed in range(tries):
        rows = np.random.default_rng(seed).permutation(rest)
        lines = checked(tmp_path / str(seed), drawn(mnist, rows), bounds)
        passed += lines == []
        print(seed, lines)

    assert passed >= 99
    chaos.count(KIND, "another batch of MNIST passes: at least 99 of 100", tries, tries)


@pytest.mark.parametrize(
    "poison", [each for each in POISONS if not each.name.startswith("an extra")], ids=lambda poison: poison.name
)
def test_poisoned_batches_fail(poison: Poison, mnist: Data, order: Rows, bounds: str, chaos: Chaos, tmp_path: Path) -> None:
    data = drawn(mnist, order[TRAIN + TEST :])

    lines = checked(tmp_path / "poisoned", poison.change(data, np.random.default_rng(0)), bounds)

    print(lines)
    chaos.count(KIND, f"{poison.name}: stopped", 1, int(bool(lines)), int(not lines))
