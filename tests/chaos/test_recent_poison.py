"""Recent data sets of a changed world pass validation. Poisoned ones are stopped there, or later by the promotion rule."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline import fetch, validate
from pipeline.core.paths import Paths
from pipeline.data.datasets import Split
from pipeline.validate import InvalidDataError
from tests.chaos.conftest import LONG, Chaos
from tests.conftest import SMALL, Edit, write_source
from tests.worlds import changed

KIND = "Poisoned recent data"
COUNT = 300  # labelled images, a third of them test images

pytestmark = pytest.mark.usefixtures("without_pages")

Poison = Callable[[Any, Any, np.random.Generator], tuple[Any, Any]]


def wrong(share: float) -> Poison:
    """Another label for a share of the images."""

    def poison(images: Any, labels: Any, rng: np.random.Generator) -> tuple[Any, Any]:
        chosen = rng.permutation(len(labels))[: round(share * len(labels))]
        labels = labels.copy()
        labels[chosen] = (labels[chosen] + rng.integers(1, 10, len(chosen))) % 10
        return images, labels

    return poison


def all_off_by_one(images: Any, labels: Any, _: np.random.Generator) -> tuple[Any, Any]:
    return images, (labels + 1) % 10


def inverted(images: Any, labels: Any, _: np.random.Generator) -> tuple[Any, Any]:
    return 255 - images, labels


def some_blank(images: Any, labels: Any, _: np.random.Generator) -> tuple[Any, Any]:
    return np.concatenate([images[:-1] * np.uint8(1), images[-1:] * np.uint8(0)]), labels


def repeated(images: Any, labels: Any, _: np.random.Generator) -> tuple[Any, Any]:
    return np.concatenate([images[:-9], images[-18:-9]]), np.concatenate([labels[:-9], labels[-18:-9]])


def conflicting(images: Any, labels: Any, _: np.random.Generator) -> tuple[Any, Any]:
    return np.concatenate([images[:-1], images[-2:-1]]), np.concatenate([labels[:-1], (labels[-2:-1] + 1) % 10])


STOPPED: dict[str, tuple[Poison, str]] = {
    "a fifth of the labels wrong": (wrong(0.2), "label issues"),
    "a tenth of the labels wrong": (wrong(0.12), "label issues"),
    "all labels off by one": (all_off_by_one, "labels that the base contradicts"),
    "labels shuffled": (wrong(1), "labels that the base contradicts"),
    "inverted": (inverted, "pixel minimum"),
    "a blank image": (some_blank, "blank images"),
    "images twice": (repeated, "share of duplicate images"),
    "an image twice with two labels": (conflicting, "conflicting labels"),
}


def recent(mnist: dict[str, Split], seed: int) -> tuple[Any, Any, np.random.Generator]:
    """Images of a changed world that are not in the base, and their labels."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.arange(10_000, len(mnist["train"].labels)))[:COUNT]
    return changed(mnist["train"].images[np.sort(rows)]), mnist["train"].labels[np.sort(rows)], rng


def broken(images: Any, labels: Any, edit: Edit, subset: dict[str, Split], leaked: Split | None = None) -> list[str]:
    """The expectations that this recent data set breaks."""
    write_source(Paths().root / "source", subset)
    part = COUNT // 3
    test = leaked or Split(images[:part], labels[:part])
    np.savez("recent.npz", x_train=images[part:], y_train=labels[part:], x_test=test.images, y_test=test.labels)
    params = edit(SMALL | {"fetch.extra": [{"name": "today", "source": "recent.npz", "kind": "recent"}]})
    fetch.run(params, Paths())
    try:
        validate.run(params, Paths())
    except InvalidDataError as error:
        return [line.strip() for line in str(error).splitlines()[1:-1]]
    return []


def test_a_changed_world_passes(mnist: dict[str, Split], subset: dict[str, Split], edit: Edit, chaos: Chaos) -> None:
    tries = chaos.tries(1, 20)
    passed = [broken(*recent(mnist, seed)[:2], edit, subset) for seed in range(tries)]

    print(passed)
    chaos.count(KIND, "digits turned by 30 degrees with thick strokes, rightly labelled: pass", tries, passed.count([]))


@pytest.mark.parametrize("name", list(STOPPED)[:: 1 if LONG else 3])
def test_validate_stops(name: str, mnist: dict[str, Split], subset: dict[str, Split], edit: Edit, chaos: Chaos) -> None:
    poison, expectation = STOPPED[name]
    tries = chaos.tries(1, 10)
    lines = [broken(*poison(*recent(mnist, seed)), edit, subset) for seed in range(tries)]

    print(lines)
    stopped = sum(any(line.startswith(f"extra today, {expectation}") for line in each) for each in lines)
    chaos.count(KIND, f"{name}: stopped by validate", tries, stopped, tries - stopped)


def test_validate_stops_test_images_among_the_training_images(
    mnist: dict[str, Split], subset: dict[str, Split], edit: Edit, chaos: Chaos
) -> None:
    images, labels, _ = recent(mnist, 0)

    (line,) = broken(images, labels, edit, subset, Split(images[-50:], labels[-50:]))[:1]

    assert "leaked test images" in line or "duplicate" in line
    chaos.count(KIND, "test images among the training images: stopped by validate", 1, 1)
