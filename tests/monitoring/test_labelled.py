"""From answers to a data set: which image goes where, a finish that is repeated, and files that are labelled already."""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core import params
from pipeline.core.paths import Paths
from pipeline.monitoring import collected, labelled, selected
from pipeline.monitoring.answers import LABEL, OTHER, SKIP, Answer, Answers
from pipeline.monitoring.errors import CollectedError, NoLabelsError
from pipeline.monitoring.selected import Selection
from tests.conftest import Edit

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 28, 28)).astype(np.uint8)
CLASSES = tuple("0123456789")


@pytest.fixture
def paths(edit: Edit) -> Paths:
    edit()
    return Paths()


def answered(paths: Paths, *given: Answer | None) -> tuple[Selection, Answers]:
    """A selection of six images, the first three of them of the random part, with these answers."""
    ids, parts = selected.identifiers(IMAGES), ("random",) * 3 + ("informative",) * 3
    selection = Selection(IMAGES, np.full((6, 10), 0.1, np.float32), ids, parts, CLASSES, {})
    selected.write(selection, paths)
    answers = Answers(paths.selected / selected.ANSWERS, ids, CLASSES)
    for id_, answer in zip(ids, given, strict=False):
        if answer is not None:
            answers.add(id_, answer)
    return selection, answers


def test_the_random_part_becomes_the_test_split_and_what_has_no_label_stays_out(paths: Paths) -> None:
    one, two = Answer(LABEL, "1"), Answer(LABEL, "2")
    selection, answers = answered(paths, one, Answer(OTHER), two, two, Answer(SKIP), one)
    answers.add(selection.ids[5], two)

    found = labelled.from_answers(selection, answers, paths)

    np.testing.assert_array_equal(found.arrays["x_test"], IMAGES[[0, 2]])
    np.testing.assert_array_equal(found.arrays["x_train"], IMAGES[[3]])
    np.testing.assert_array_equal(found.arrays["other"], IMAGES[[1]])
    assert (found.arrays["y_test"].tolist(), found.arrays["y_train"].tolist()) == (["1", "2"], ["2"])
    assert found.conflicts == {selection.ids[5]: ["1", "2"]}


def test_without_labels_there_is_no_set(paths: Paths) -> None:
    with pytest.raises(NoLabelsError, match="expected at least one labelled image"):
        labelled.from_answers(*answered(paths, Answer(OTHER)), paths)


def test_a_finish_that_is_repeated_makes_one_set(paths: Paths) -> None:
    loaded, tracked = params.load(paths.params), list[bytes]()
    found = labelled.from_answers(*answered(paths, Answer(LABEL, "1"), None, None, Answer(LABEL, "2")), paths)

    for _ in range(2):
        name = labelled.name_of_selection(loaded, paths)
        written = labelled.publish(name, found, lambda path: tracked.append(path.read_bytes()), paths)
        loaded = params.load(paths.params)

    assert [(extra.name, extra.source) for extra in loaded.fetch.extra] == [(name, written["file"])]
    assert tracked[0] == tracked[1]
    np.testing.assert_array_equal(collected.labelled(paths, (28, 28)), IMAGES[[3, 0]])


def test_names_are_dates_and_a_second_set_of_a_day_gets_a_number(paths: Paths) -> None:
    loaded, day = params.load(paths.params), date(2026, 11, 26)
    names = []
    for _ in range(3):
        names.append(collected.free_name(loaded, paths, day))
        collected.write(paths.collected / f"{names[-1]}.npz", {"other": IMAGES})

    assert names == ["recent-2026-11-26", "recent-2026-11-26-2", "recent-2026-11-26-3"]


@pytest.mark.parametrize(("labels", "expected"), [({"x_train": 2}, {"test_share": 0}), ({"x_train": 2, "x_test": 1}, {})])
def test_without_a_random_part_nothing_is_held_out_in_its_place(paths: Paths, labels: Any, expected: Any) -> None:
    entry = collected.entry("a", paths, {name: IMAGES[:count] for name, count in labels.items()})

    assert entry == {"name": "a", "source": "data/collected/a.npz", "kind": "recent", **expected}


def test_labelled_files_lose_repeats_contradictions_and_what_is_collected(paths: Paths) -> None:
    collected.write(paths.collected / "old.npz", {"x_train": IMAGES[:1], "y_train": np.array(["1"])})
    splits = {"train": [0, 1, 1, 2, 3, 4], "validation": [5], "test": [4]}
    arrays = {f"x_{split}": IMAGES[rows] for split, rows in splits.items()}
    labels = {"y_train": [1, 1, 1, 2, 7, 3], "y_validation": [6], "y_test": [3]}
    np.savez("labelled.npz", **arrays, **{name: np.array(each, np.uint8) for name, each in labels.items()})
    np.savez("contradicting.npz", images=IMAGES[[3, 3, 5]], labels=np.array([1, 2, 9], np.uint8))

    found = labelled.from_source(Path("labelled.npz"), params.load(paths.params), paths)
    other = labelled.from_source(Path("contradicting.npz"), params.load(paths.params), paths)

    np.testing.assert_array_equal(found.arrays["x_test"], IMAGES[[4]])
    np.testing.assert_array_equal(found.arrays["x_train"], IMAGES[[1, 2, 3, 5]])
    assert found.arrays["y_train"].tolist() == ["1", "2", "7", "6"]
    assert other.arrays["labels"].tolist() == ["9"]
    assert other.conflicts == {selected.identifiers(IMAGES[[3]])[0]: ["1", "2"]}


def test_a_set_that_was_not_pulled_is_an_error(paths: Paths) -> None:
    paths.collected.mkdir(parents=True)
    (paths.collected / "old.npz.dvc").touch()

    with pytest.raises(CollectedError, match=r"dvc pull data/collected/old\.npz"):
        collected.labelled(paths, (28, 28))


def test_a_damaged_set_is_an_error(paths: Paths) -> None:
    paths.collected.mkdir(parents=True)
    (paths.collected / "old.npz").write_bytes(b"PK\x03\x04 damaged")

    with pytest.raises(CollectedError, match="a damaged file"):
        collected.labelled(paths, (28, 28))
