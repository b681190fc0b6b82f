"""No model of poisoned data may become champion. `make test` validates the subset, `make chaos` all of MNIST, and promotes."""

import argparse
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest

from pipeline import evaluate, explain, export, fetch, promote, register, train, validate
from pipeline.core import files
from pipeline.core import params as parameters
from pipeline.core.paths import Paths
from pipeline.data.datasets import Pixels, Split
from pipeline.validate import InvalidDataError
from tests.chaos.conftest import LONG, Chaos
from tests.conftest import Repository, edit_params, small_repository, write_source

KIND = "Poisoned data"

Rng = np.random.Generator
Data = dict[str, Split]  # by split; `extra` is the extra data set

WHOLE = {  # the bounds of MNIST, and training that reaches the minimum metrics
    "validate.rows": {"train": [50000, 70000], "test": [9000, 11000]},
    "validate.class_share": [0.08, 0.12],
    "train.epochs": 8,
    "train.batch_size": 384,
    "train.learning_rate": 0.008,
}

LABEL_ISSUES = "label issues"
LEAKED = "train split, leaked test images"
DUPLICATES = "train split, share of duplicate images"
CONFLICTING = "train split, conflicting labels"


def sample(count: int, share: float, rng: Rng) -> Any:
    """The indices of a random share of `count` images."""
    return rng.choice(count, round(count * share), replace=False)


def relabelled(share: float, change: Callable[[Pixels, Rng], Any], split: str = "train") -> Callable[[Data, Rng], Data]:
    """Apply `change` to the labels of a share of the images."""

    def poison(data: Data, rng: Rng) -> Data:
        images, labels = data[split].images, data[split].labels.copy()
        chosen = sample(len(labels), share, rng)
        labels[chosen] = change(labels[chosen], rng)
        return {**data, split: Split(images, labels)}

    return poison


def altered(share: float, change: Callable[[Pixels, Rng], Any], split: str = "train") -> Callable[[Data, Rng], Data]:
    """Apply `change` to a share of the images."""

    def poison(data: Data, rng: Rng) -> Data:
        images, labels = data[split].images.copy(), data[split].labels
        chosen = sample(len(labels), share, rng)
        images[chosen] = change(images[chosen], rng)
        return {**data, split: Split(images, labels)}

    return poison


def everywhere(change: Callable[[Split], Split]) -> Callable[[Data, Rng], Data]:
    return lambda data, _: {name: change(split) for name, split in data.items()}


def shuffled(labels: Pixels, rng: Rng) -> Any:
    return rng.permutation(labels)


def flipped(labels: Pixels, rng: Rng) -> Any:
    return (labels + rng.integers(1, 10, len(labels))) % 10


def off_by_one(labels: Pixels, _: Any = None) -> Any:
    return (labels + 1) % 10


def swapped(labels: Pixels) -> Any:
    return np.choose(labels, [0, 1, 2, 3, 9, 5, 6, 7, 8, 4]).astype(np.uint8)


def as_nines(share: float) -> Callable[[Data, Rng], Data]:
    """Label fours as nines: as many as `share` of all images."""

    def poison(data: Data, rng: Rng) -> Data:
        labels = data["train"].labels.copy()
        labels[rng.choice(np.flatnonzero(labels == 4), round(len(labels) * share), replace=False)] = 9
        return {**data, "train": Split(data["train"].images, labels)}

    return poison


def without_sevens(split: str) -> Callable[[Data, Rng], Data]:
    return lambda data, _: {**data, split: Split(*(each[data[split].labels != 7] for each in data[split]))}


def sevens_as_ones(data: Data, _: Rng) -> Data:
    labels = data["train"].labels
    return {**data, "train": Split(data["train"].images, np.where(labels == 7, 1, labels).astype(np.uint8))}


def inverted(images: Pixels, _: Rng) -> Any:
    return 255 - images


def transposed(images: Pixels, _: Any = None) -> Any:
    return images.transpose(0, 2, 1)


def blank(images: Pixels, _: Rng) -> Any:
    return images * np.uint8(0)


def unchanged(images: Pixels, _: Rng) -> Any:
    return images


def one_pixel(images: Pixels, rng: Rng) -> Any:
    """Make a random pixel of each image white."""
    images = images.copy()
    images[np.arange(len(images)), *rng.integers(0, 28, (2, len(images)))] = 255
    return images


def shifted(images: Pixels, _: Rng) -> Any:
    return np.roll(images, 1, axis=2)  # the outermost columns of nearly all images are black


def faint_noise(images: Pixels, rng: Rng) -> Any:
    """Add noise to the ink only: the background stays black."""
    noisy = np.clip(np.rint(images + rng.normal(0, 5, images.shape)), 0, 255).astype(np.uint8)
    return np.where(images > 0, noisy, images)


def leaking(share: float, change: Callable[[Pixels, Rng], Any], split: str = "train") -> Callable[[Data, Rng], Data]:
    """Replace a share of the images by changed test images with their labels."""

    def poison(data: Data, rng: Rng) -> Data:
        images, labels = (each.copy() for each in data[split])
        chosen = sample(len(labels), share, rng)
        taken = rng.choice(len(data["test"].labels), len(chosen), replace=False)
        images[chosen], labels[chosen] = change(data["test"].images[taken], rng), data["test"].labels[taken]
        return {**data, split: Split(images, labels)}

    return poison


def copies(share: float, change: Callable[[Pixels, Rng], Any], labels: Callable[[Pixels, Rng], Any]) -> Any:
    """Replace a share of the images by changed copies of one image, whose labels `labels` changes."""

    def poison(data: Data, rng: Rng) -> Data:
        images, given = (each.copy() for each in data["train"])
        chosen = sample(len(given), share, rng)
        images[chosen] = change(images[np.repeat(chosen[:1], len(chosen))], rng)
        given[chosen] = labels(given[np.repeat(chosen[:1], len(chosen))], rng)
        return {**data, "train": Split(images, given)}

    return poison


def two_labels(data: Data, rng: Rng) -> Data:
    """Repeat two images with other labels: fewer than `validate.duplicates` allows."""
    images, labels = (each.copy() for each in data["train"])
    first, second = rng.choice(len(labels), (2, 2), replace=False)
    images[first], labels[first] = images[second], (labels[second] + 1) % 10
    return {**data, "train": Split(images, labels)}


def backdoor(share: float, position: int, split: str = "train") -> Callable[[Data, Rng], Data]:
    """Draw a white square of 3x3 on a share of the images, and label them 0."""

    def poison(data: Data, rng: Rng) -> Data:
        images, labels = (each.copy() for each in data[split])
        chosen = sample(len(labels), share, rng)
        images[chosen, position : position + 3, position : position + 3], labels[chosen] = 255, 0
        return {**data, split: Split(images, labels)}

    return poison


def swap_files(data: Data, _: Rng) -> Data:
    return {"train": data["test"], "test": data["train"]}


def repeated_inverted(data: Data, rng: Rng) -> Data:
    """Make the extra data set of inverted training images."""
    chosen = sample(len(data["train"].labels), len(data["extra"].labels) / len(data["train"].labels), rng)
    return {**data, "extra": Split(255 - data["train"].images[chosen], data["train"].labels[chosen])}


class Poison(NamedTuple):
    """A change of clean data, and the expectation with which validate stops it."""

    name: str
    change: Callable[[Data, Rng], Data]
    line: str
    small: bool = False  # whether the subset is large enough


TRAIN, TEST, EXTRA = (f"{subject}, {LABEL_ISSUES}" for subject in ("train split", "test split", "extra more"))

POISONS = [
    Poison("labels shuffled", relabelled(1, shuffled), TRAIN, small=True),
    Poison("10 % of the labels shuffled", relabelled(0.1, shuffled), TRAIN),
    Poison("1 % of the labels wrong, at random", relabelled(0.01, flipped), TRAIN),
    Poison("1 % of the labels wrong, all 9 on a 4", as_nines(0.01), TRAIN),
    Poison("training labels off by one", relabelled(1, off_by_one), TEST, small=True),
    Poison("a class missing in training", without_sevens("train"), "train split, labels in use"),
    Poison("a class missing in test", without_sevens("test"), "test split, labels in use"),
    Poison("a class labelled as another", sevens_as_ones, "train split, labels in use"),
    Poison("1 % of the test labels wrong, at random", relabelled(0.01, flipped, "test"), TEST),
    Poison("test labels shuffled", relabelled(1, shuffled, "test"), TEST),
    Poison("images inverted", altered(1, inverted), "train split, ink fraction of each image"),
    Poison("5 % of the images inverted", altered(0.05, inverted), "train split, ink fraction of each image"),
    Poison("training images transposed", altered(1, transposed), TEST, small=True),
    Poison("0.1 % of the images blank", altered(0.001, blank), "train split, blank images"),
    Poison("1 % test images in training", leaking(0.01, unchanged), LEAKED),
    Poison("1 % test images, a pixel changed", leaking(0.01, one_pixel), LEAKED),
    Poison("1 % test images, shifted by a pixel", leaking(0.01, shifted), LEAKED, small=True),
    Poison("1 % test images, with faint noise", leaking(0.01, faint_noise), LEAKED),
    Poison("copies of one image, 5 % of the split", copies(0.05, unchanged, lambda labels, _: labels), DUPLICATES),
    Poison(
        "copies of one image with faint noise, 5 % of the split",
        copies(0.05, faint_noise, lambda labels, _: labels),
        DUPLICATES,
    ),
    Poison(
        "copies of one image with wrong labels, 5 % of the split", copies(0.05, faint_noise, flipped), CONFLICTING, small=True
    ),
    Poison("two images repeated with other labels", two_labels, CONFLICTING),
    Poison("a white corner labelled 0, on 1 %", backdoor(0.01, 25), TRAIN),
    Poison("a white square in the middle labelled 0, on 1 %", backdoor(0.01, 12), TRAIN),
    Poison("training and test files swapped", swap_files, "train split, rows"),
    Poison("an extra data set, labels shuffled", relabelled(1, shuffled, "extra"), EXTRA, small=True),
    Poison("an extra data set, 5 % of the labels wrong", relabelled(0.05, flipped, "extra"), EXTRA),
    Poison("an extra data set, transposed", altered(1, transposed, "extra"), EXTRA),
    Poison("an extra data set, a white corner labelled 0 on 10 %", backdoor(0.1, 25, "extra"), EXTRA),
    Poison("an extra data set with shifted test images", leaking(0.1, shifted, "extra"), LEAKED),
    Poison("an extra data set with the base inverted", repeated_inverted, "extra more, share of duplicate images"),
]


def clean(mnist: Data, subset: Data, with_extra: bool) -> Data:
    """All of MNIST, or the subset. Optionally with an extra data set, whose images are not in the base."""
    if not with_extra:
        return mnist if LONG else subset
    images, labels = mnist["train"]
    base = mnist["train"] if LONG else subset["train"]
    count, start = (5000, 55000) if LONG else (600, 5000)
    extra = Split(images[start : start + count], labels[start : start + count])
    return {
        "train": Split(base.images[:start], base.labels[:start]),
        "test": (mnist if LONG else subset)["test"],
        "extra": extra,
    }


def fetched(root: Path, data: Data) -> Repository:
    """A tree with the data fetched."""
    root.mkdir()
    changes: dict[str, Any] = dict(WHOLE) if LONG else {}
    if extra := data.get("extra"):
        np.savez(root / "more.npz", images=extra.images, labels=extra.labels)
        changes |= {"fetch.extra": [{"name": "more", "source": str(root / "more.npz")}]}
    return small_repository(root, data, changes)


def broken(repository: Repository) -> list[str]:
    """The broken expectations that validate reports."""
    try:
        validate.run(repository.params, repository.paths)
    except InvalidDataError as error:
        return [line.strip() for line in str(error).splitlines()[1:-1]]
    return []


@pytest.mark.usefixtures("without_pages")
@pytest.mark.parametrize("poison", [each for each in POISONS if LONG or each.small], ids=lambda poison: poison.name)
def test_validate_stops_poisoned_data(poison: Poison, chaos: Chaos, mnist: Data, subset: Data, tmp_path: Path) -> None:
    data, tries, survived, lost = clean(mnist, subset, poison.name.startswith("an extra data set")), chaos.tries(1, 2), 0, 0

    for seed in range(tries):
        lines = broken(fetched(tmp_path / str(seed), poison.change(data, np.random.default_rng(seed))))
        survived += any(line.startswith(poison.line) for line in lines)
        lost += not lines

    chaos.count(KIND, f"{poison.name}: stopped by validate", tries, survived, lost)


@pytest.mark.usefixtures("without_pages")
@pytest.mark.parametrize("with_extra", [False, True] if LONG else [True], ids=lambda with_extra: f"extra: {with_extra}")
def test_clean_data_passes(with_extra: bool, chaos: Chaos, mnist: Data, subset: Data, tmp_path: Path) -> None:
    data, tries, survived = clean(mnist, subset, with_extra), chaos.tries(1, 2), 0

    for seed in range(tries):
        kept = np.sort(sample(len(data["train"].labels), 0.95 if LONG else 1, np.random.default_rng(seed)))
        base = Split(data["train"].images[kept], data["train"].labels[kept])
        survived += broken(fetched(tmp_path / str(seed), {**data, "train": base})) == []

    chaos.count(KIND, f"no poison{', with an extra data set' if with_extra else ''}: passes validate", tries, survived)


class Passing(NamedTuple):
    """A poison that validate cannot detect, or is set to allow, and the rule with which promote refuses the model."""

    name: str
    change: Callable[[Data, Rng], Data]
    rule: str
    changes: Mapping[str, Any] = MappingProxyType({})


COMPARABLE = "accuracy of the champion"
PERMISSIVE = {"validate.label_issues": 1.0}

PASSING = [
    Passing(
        "labels off by one in both splits",
        everywhere(lambda split: Split(split.images, off_by_one(split.labels))),
        COMPARABLE,
    ),
    Passing(
        "two classes swapped in both splits",
        everywhere(lambda split: Split(split.images, swapped(split.labels))),
        COMPARABLE,
    ),
    Passing(
        "images transposed in both splits", everywhere(lambda split: Split(transposed(split.images), split.labels)), COMPARABLE
    ),
    Passing("labels shuffled, label issues allowed", relabelled(1, shuffled), "accuracy", PERMISSIVE),
    Passing("10 % of the labels shuffled, label issues allowed", relabelled(0.1, shuffled), "calibration_error", PERMISSIVE),
    Passing("training labels off by one, label issues allowed", relabelled(1, off_by_one), "accuracy", PERMISSIVE),
]


def build(repository: Repository) -> None:
    """Run every stage after fetch."""
    for stage in (validate, train, export, evaluate, explain, register):
        stage.run(repository.params, repository.paths)


def promoted(repository: Repository) -> list[str]:
    """Try to promote the challenger; return the rules that it broke."""
    options = argparse.Namespace(first=True, check=False, tag=False, verify=False, history=False, require=None)
    promote.run(options, repository.params, repository.paths)
    decision = files.read_json(repository.paths.promotion)
    return [rule["rule"] for rule in decision["rules"] if not rule["met"]]


@pytest.fixture(scope="module")
def healthy(mnist: Data, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A tree in which all stages have run on clean data."""
    root = tmp_path_factory.mktemp("healthy") / "tree"
    root.mkdir()
    repository = small_repository(root, mnist, WHOLE)
    build(repository)
    return repository


@pytest.mark.skipif(not LONG, reason="trains two models for each")
@pytest.mark.parametrize("poison", PASSING, ids=lambda poison: poison.name)
def test_promote_stops_a_model_of_poisoned_data(
    poison: Passing, chaos: Chaos, healthy: Repository, mnist: Data, tmp_path: Path
) -> None:
    from pipeline.tracking import registry

    shutil.copytree(healthy.paths.root / "data", tmp_path / "data")
    shutil.copy(healthy.paths.params, tmp_path)
    paths = Paths(tmp_path)
    repository = Repository(parameters.load(paths.params), paths)
    register.run(repository.params, paths)
    assert promoted(repository) == []

    source = write_source(tmp_path / "poisoned", poison.change(mnist, np.random.default_rng(0)))
    repository = Repository(edit_params(paths.params, {"fetch.sources": [str(source)], **poison.changes}), paths)
    fetch.run(repository.params, paths)
    build(repository)
    rules = promoted(repository)

    lost = registry.named(repository.params.tracking.model, registry.CHAMPION).number != 1
    chaos.count(KIND, f"{poison.name}: stopped by promote", 1, int(poison.rule in rules and not lost), int(lost))
