"""Adopting a data set: what is recognised and written, what is asked, and what is refused."""

import argparse
import csv
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline import adopt, fetch, validate
from pipeline.adoption import bounds, params_file, search
from pipeline.adoption.bounds import Choice
from pipeline.adoption.errors import AdoptError
from pipeline.adoption.search import Measured, Trial
from pipeline.core import params as parameters
from pipeline.core.paths import Paths
from pipeline.data.datasets import Split
from pipeline.validate import InvalidDataError
from tests.chaos.conftest import LONG
from tests.conftest import Edit
from tests.imports import ROOT
from tests.ingestion.writers import WRITERS, Data, png


def options(data: Path | str, **changes: Any) -> argparse.Namespace:
    chosen = {"name": None, "size": None, "test_share": None, "dry_run": False, "accept": False} | changes
    return argparse.Namespace(data=str(data), **chosen)


@pytest.fixture
def tree(edit: Edit) -> Paths:
    """A committed checkout with params.yaml alone."""
    edit()
    commands = (
        ["init", "--quiet"],
        ["add", "params.yaml"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "first"],
    )
    for command in commands:
        subprocess.run(["git", *command], check=True)
    return Paths()


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose training parameters without training."""
    metrics = {"accuracy": 0.95, "worst_recall": 0.9, "shifted_accuracy": 0.8, "calibration_error": 0.01}
    monkeypatch.setattr(
        search, "search", lambda data, params: (search.plan(params.train, len(data.labels)), [Trial("mild", 0.004, 0.1, 0.97)])
    )
    monkeypatch.setattr(search, "first_model", lambda *_: Measured(metrics, 1000, 90, 200_000))


def run(data: Path | str, paths: Paths, **changes: Any) -> int:
    return adopt.run(options(data, **changes), parameters.load(paths.params), paths)


def adopted(paths: Paths) -> Any:
    return parameters.load(paths.params)


def drawn(classes: int, count: int, seed: int = 0, size: tuple[int, int] = (12, 12)) -> Split:
    """Noisy images of `classes` patterns, `count` of each."""
    rng = np.random.default_rng(seed)
    patterns = np.random.default_rng(99).integers(40, 200, (classes, *size))
    labels = np.repeat(np.arange(classes), count)
    noise = rng.normal(0, 20, (len(labels), *size))
    return Split(np.clip(patterns[labels] + noise, 1, 255).astype(np.uint8), labels.astype(np.uint8))


def class_folders(root: Path, names: list[str], split: Split) -> Path:
    for number, (image, label) in enumerate(zip(*split, strict=True)):
        path = root / names[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))
    return root


def test_two_commands_train_on_a_folder_of_images(
    tree: Paths, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the short search and the first model, on classes that YAML would read as something else."""
    names = ["1.0", "10", "2", "no", "yes", 'a, "b"', "Maß"]
    for name, value in (("_STEPS", 60), ("_TRIAL_STEPS", 20), ("_FACTORS", (0.5, 0.5, 0.5))):
        monkeypatch.setattr(search, name, value)
    class_folders(tmp_path / "My Photos", names, drawn(len(names), 60))

    assert run(tmp_path / "My Photos", tree) == 0

    params = adopted(tree)
    assert params.fetch.classes == ("1.0", "2", "10", 'a, "b"', "Maß", "no", "yes")
    assert (params.fetch.dataset, params.tracking.experiment, params.tracking.model) == (
        *("my-photos", "my-photos", "my-photos-dense"),
    )
    assert params.promote.minimum.accuracy > 0.5
    printed = capsys.readouterr().out
    assert "My Photos is a folder per class" in printed
    assert "7 classes of 60 to 60 images: 1.0, 2, 10" in printed
    assert "tried augmentation digits" in printed

    fetch.run(params, tree)
    validate.run(params, tree)  # raises if an expectation breaks


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("kind", ["a folder per class", "Parquet of images and labels", "an npz file"])
def test_every_layout_is_adopted_with_the_same_hashes(kind: str, tree: Paths, subset: Data, tmp_path: Path) -> None:
    data = {name: Split(split.images[:700], split.labels[:700]) for name, split in subset.items()}
    source = WRITERS[kind](tmp_path, data)

    assert run(source, tree, name="some digits") == 0

    params = adopted(tree)
    fetch.run(params, tree)  # pinned: other arrays are refused
    np.testing.assert_array_equal(np.load("data/raw/train_images.npy"), data["train"].images)
    assert params.fetch.classes == tuple("0123456789")
    assert params.fetch.files.test_labels.sha256 is not None


@pytest.mark.usefixtures("untrained")
def test_comments_are_kept_and_each_choice_says_where_it_comes_from(tree: Paths, tmp_path: Path, capsys: Any) -> None:
    class_folders(tmp_path / "photos", ["a", "b"], drawn(2, 40))
    before = tree.params.read_text()

    assert run(tmp_path / "photos", tree, dry_run=True) == 0
    assert tree.params.read_text() == before
    assert (
        '+  classes: ["a", "b"]  # the names of labels 0, 1, 2 ...; adopted: as the data spell them' in capsys.readouterr().out
    )

    assert run(tmp_path / "photos", tree) == 0
    after = tree.params.read_text()
    assert re.search(
        r"    train: \[\d+, \d+\]  # without the images of fetch.extra; adopted: \d+ today; fewer than 80%", after
    )
    assert {line for line in before.splitlines() if line.strip().startswith("#")} <= set(after.splitlines())
    assert "    rotation: 7  # degrees; adopted: strength mild" in after
    subprocess.run(["git", "checkout", "--quiet", "params.yaml"], check=True)
    assert tree.params.read_text() == before


def test_a_second_adoption_replaces_what_the_first_said() -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    once = params_file.edited(text, [Choice("validate.rows.train", [1, 2], "one"), Choice("fetch.size", [3, 4], "one")])
    twice = params_file.edited(once, [Choice("validate.rows.train", [1, 2], "two"), Choice("fetch.size", "null", "two")])

    assert params_file.edited(text, []) == text
    assert twice == params_file.edited(
        text, [Choice("validate.rows.train", [1, 2], "two"), Choice("fetch.size", "null", "two")]
    )


def test_the_text_is_yaml_that_reads_as_what_was_chosen() -> None:
    names = ["yes", "no", "1.0", "null", "~", "1e3", 'a "b"', "c, d", "line\nbreak", "# e", "0x1F", "2024-01-01", "猫"]

    text = params_file.edited((ROOT / "params.yaml").read_text(), [Choice("fetch.classes", names, "x")])

    assert YAML(typ="safe").load(text)["fetch"]["classes"] == names


def test_uncommitted_changes_are_refused(tree: Paths, tmp_path: Path) -> None:
    class_folders(tmp_path / "photos", ["a", "b"], drawn(2, 5))
    tree.params.write_text(tree.params.read_text() + "\n")

    with pytest.raises(AdoptError, match=r"^git: expected no uncommitted changes, found params.yaml"):
        run(tmp_path / "photos", tree)


def few(root: Path, **classes: int) -> Path:
    """A folder per class with so many images of each."""
    images = drawn(1, 60).images
    for name, count in classes.items():
        for number in range(count):
            path = root / "few" / name.replace("__", "/") / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(np.roll(images[number], hash(name) % 7)))
    return root / "few"


def many_classes(root: Path) -> Path:
    return few(root, **{f"c{number}": 2 for number in range(300)})


def empty(root: Path) -> Path:
    (root / "empty").mkdir()
    return root / "empty"


def one_text_file(root: Path) -> Path:
    source = few(root, a=20, b=20)
    (source / "a" / "text.png").write_text("I am text")
    return source


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda root: root / "nowhere", "nowhere: expected a file or folder, found none"),
        (empty, "expected four IDX files, .* found an empty folder"),
        (lambda root: few(root, a=3), "^classes: expected at least two, found 1: 'a'"),
        (lambda root: few(root, a=3, b=1), "^classes: expected two images of each, to train and to test, found one of 'b'"),
        (
            lambda root: few(root, train__a=3, train__b=3, test__a=3, test__b=3, test__c=3),
            "^classes: expected training images of each, found 'c' in the test split only",
        ),
        (
            lambda root: few(root, train__a=3, train__b=3, test__a=3),
            "^classes: expected test images of each, found 'b' in the training split only",
        ),
        (many_classes, "^classes: expected at most 256, because labels are uint8, found 300"),
        (one_text_file, r"^image files: expected at most 1.00% that cannot be read .*, found 1 of 41: a/text.png"),
    ],
)
def test_data_that_no_model_can_be_trained_on_are_refused(
    write: Callable[[Path], Path], message: str, edit: Edit, tmp_path: Path
) -> None:
    edit()
    before = Path("params.yaml").read_text()

    with pytest.raises(AdoptError, match=message) as error:
        run(write(tmp_path), Paths(), dry_run=True)

    assert "\nparams.yaml was not changed. " in str(error.value)
    assert Path("params.yaml").read_text() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": "28"}, "--size: expected height and width as 28x28, found '28'"),
        ({"test_share": 1.5}, "--test-share: expected a share between 0 and 1, found 1.5"),
        ({"name": "!!"}, "--name: expected letters or digits, found '!!'"),
    ],
)
def test_wrong_options_are_refused(changes: dict[str, Any], message: str, edit: Edit, tmp_path: Path) -> None:
    edit()

    with pytest.raises(AdoptError, match=message):
        run(few(tmp_path, a=3, b=3), Paths(), dry_run=True, **changes)


@pytest.mark.usefixtures("untrained")
def test_images_of_one_size_but_one_and_a_size_that_is_given(tree: Paths, tmp_path: Path, capsys: Any) -> None:
    source = class_folders(tmp_path / "photos", ["a", "b"], drawn(2, 40))
    (source / "a" / "wide.png").write_bytes(png(drawn(1, 1, seed=5, size=(12, 30)).images[0]))

    run(source, tree)
    assert adopted(tree).fetch.size == (12, 12)
    assert "2 sizes, scaled and padded to 12x12" in capsys.readouterr().out

    subprocess.run(["git", "checkout", "--quiet", "params.yaml"], check=True)
    run(source, tree, size="6x8")
    assert adopted(tree).fetch.size == (6, 8)


@pytest.mark.usefixtures("untrained")
def test_dark_ink_on_a_light_ground_is_inverted(tree: Paths, tmp_path: Path, capsys: Any) -> None:
    images, labels = drawn(2, 40)
    images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1] = 0, 0, 0, 0
    class_folders(tmp_path / "light", ["a", "b"], Split(255 - images, labels))

    run(tmp_path / "light", tree)

    assert "dark ink on a light ground: inverted" in capsys.readouterr().out
    params = adopted(tree)
    assert params.fetch.invert
    fetch.run(params, tree)
    assert (np.load("data/raw/train_images.npy")[:, 0] == 0).all()


@pytest.mark.usefixtures("untrained")
def test_what_looks_wrong_is_listed_and_asked_about(tree: Paths, tmp_path: Path, capsys: Any) -> None:
    train, test = drawn(2, 60), drawn(2, 20, seed=1)
    source = tmp_path / "photos"
    class_folders(source / "train", ["a", "b"], train)
    class_folders(source / "test", ["a", "b"], test)
    (source / "train" / "a" / "leak.png").write_bytes(png(test.images[0]))
    (source / "train" / "b" / "wrong.png").write_bytes(png(train.images[3]))
    (source / "train" / "b" / "text.png").write_text("I am text")
    before = tree.params.read_text()

    assert run(source, tree) == adopt.UNDECIDED

    printed = capsys.readouterr().out
    assert "1 file(s) that cannot be read: train/b/text.png" in printed
    assert "1 train image(s), leaked: a test image, or nearly one" in printed
    assert "1 train image(s), conflicting label: repeats an image of another class" in printed
    assert tree.params.read_text() == before
    with (tree.adopted / "issues.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["kind"], row["file or row of the source"]) for row in rows] == [
        ("unreadable", "train/b/text.png"),
        ("leaked", "train/a/leak.png"),
        ("conflicting_label", "train/b/wrong.png"),
    ]
    assert (tree.adopted / "issues.png").stat().st_size > 0

    assert run(source, tree, accept=True) == 0
    params = adopted(tree)
    assert params.validate_.leaked > 0
    fetch.run(params, tree)
    validate.run(params, tree)


@pytest.mark.usefixtures("untrained", "without_pages")
@pytest.mark.skipif(not LONG, reason="tests/chaos/test_adopted_bounds.py has many batches: make chaos")
def test_the_next_batch_passes_and_a_poisoned_one_fails(tree: Paths, subset: Data, mnist: Data, tmp_path: Path) -> None:
    WRITERS["an npz file"](tmp_path, subset)
    run(tmp_path / "keras.npz", tree)
    params = adopted(tree)
    free = {name: getattr(params.fetch.files, name).model_copy(update={"sha256": None}) for name in fetch.datasets.FILES}
    unpinned = params.fetch.model_copy(update={"files": params.fetch.files.model_copy(update=free), "sources": ("next.npz",)})
    params = params.model_copy(update={"fetch": unpinned})

    def batch(start: int, change: Callable[[Any], Any] = lambda images: images) -> None:
        images, labels = mnist["train"]
        train, test = slice(start, start + 3000), slice(start + 3000, start + 4000)
        changed = change(images[train])
        arrays = {"x_train": changed, "y_train": labels[train][: len(changed)]}
        np.savez("next.npz", x_test=images[test], y_test=labels[test], **arrays)
        fetch.run(params, tree)
        validate.run(params, tree)

    for start in (10_000, 30_000):
        batch(start)
    for change in (lambda images: 255 - images, lambda images: images.transpose(0, 2, 1), lambda images: images[:2000]):
        with pytest.raises(InvalidDataError):
            batch(10_000, change)


def test_bounds_of_a_property_that_all_images_share_are_its_value() -> None:
    assert bounds.each_image(np.zeros(50), 0, 255)[0] == [0, 0]
    assert bounds.each_image(np.full(50, 255), 0, 255)[0] == [255, 255]


def test_bounds_reach_beyond_what_was_seen_but_not_to_blank_images() -> None:
    low, high = bounds.each_image(np.linspace(0.2, 0.6, 100), 0, 1)[0]

    assert 0.1 <= low < 0.2
    assert 0.7 <= high < 0.8
