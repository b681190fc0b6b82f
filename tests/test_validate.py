"""Stage validate with the real Great Expectations: good data passes, each kind of bad data is reported."""

import base64
import html
import io
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from ruamel.yaml import YAML

from pipeline import fetch, validate
from pipeline.core import files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data.datasets import Split
from pipeline.validate import InvalidDataError
from pipeline.validation import expectations, image_table
from tests.chaos.conftest import LONG
from tests.conftest import Edit, Repository, small_repository, write_source
from tests.imports import ROOT

WIDER_CLASSES = {"validate.class_share": [0.07, 0.13]}  # 12.6 % of the first 1,000 test images are a 1

Splits = dict[str, Split]


@pytest.fixture
def params(tree: Paths, edit: Edit) -> Params:
    return edit(WIDER_CLASSES)


def refused(params: Params, paths: Paths) -> list[str]:
    """The lines of the error, one for each broken expectation."""
    fetch.run(params, paths)
    with pytest.raises(InvalidDataError) as raised:
        validate.run(params, paths)
    first, *lines, last = str(raised.value).splitlines()
    noun = "expectation" if len(lines) == 1 else "expectations"
    assert first == f"the data broke {len(lines)} {noun}:"
    assert str(paths.report_page) in last
    assert str(paths.report) in last
    assert all("; " in line for line in lines)  # the remedy, which test_every_broken_expectation_names_its_parameter... checks
    return [line.removeprefix("  ").partition("; ")[0] for line in lines]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def page(paths: Paths, split: str) -> str:
    """The one page of the Data Docs with the results of a split."""
    (found,) = (paths.data_docs / "validations" / split).rglob("*.html")
    return found.read_text(encoding="utf-8")


def poisoned(subset: Splits, split: str, change: Callable[[Any, Any], Any]) -> Splits:
    """The subset with one split changed by `change(images, labels)`, in place or by returning new arrays."""
    images, labels = subset[split].images.copy(), subset[split].labels.copy()
    return {**subset, split: Split(*(change(images, labels) or (images, labels)))}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, subset: Splits) -> Repository:
    """A tree in which good data was validated. Do not change its report and Data Docs."""
    repository = small_repository(tmp_path_factory.mktemp("good"), subset, WIDER_CLASSES)
    validate.run(repository.params, repository.paths)
    return repository


def test_good_data_passes(good: Repository) -> None:
    report = files.read_json(good.paths.report)

    assert report["success"] is True
    assert report["broken"] == []
    assert report["expectations"] == {"met": 45, "broken": 0}
    assert report["fingerprint"] == files.read_json(good.paths.manifest)["fingerprint"]


def test_the_report_describes_the_data(good: Repository, subset: Splits) -> None:
    report = files.read_json(good.paths.report)

    for name, split in subset.items():
        counts = {str(label): count for label, count in enumerate(np.bincount(split.labels).tolist())}
        assert report[name] == {
            "rows": len(split.labels),
            "mean_intensity": pytest.approx(split.images.mean(), abs=1e-4),
            "ink_fraction": pytest.approx((split.images > 0).mean(), abs=1e-6),
            "repeated_images": 0,
            "classes": counts,
        }


def test_the_data_docs_describe_every_expectation(good: Repository) -> None:
    for outcome in files.read_json(good.paths.report)["outcomes"]:
        split, name = outcome.split(": ", 1)
        assert f"{name}: " in page(good.paths, split)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_data_docs_show_no_false_time_and_no_unnamed_asset(split: str, good: Repository) -> None:
    assert "time not recorded" in page(good.paths, split)
    assert not re.search(r"1970-|Data asset: None", page(good.paths, split))


def test_the_index_links_to_both_splits_without_scripts(good: Repository) -> None:
    index = (good.paths.data_docs / "index.html").read_text(encoding="utf-8")

    linked = dict(re.findall(r'<a href="(validations/[^"]+)">(\w+) split</a>', index))

    assert sorted(linked.values()) == ["test", "train"]
    assert all((good.paths.data_docs / target).is_file() for target in linked)


def test_the_report_page_shows_every_expectation_with_its_bound_value_and_bar(good: Repository) -> None:
    report, shown = files.read_json(good.paths.report), good.paths.report_page.read_text()

    assert "All 45 expectations are met." in shown
    rows = re.findall(
        r'class="name">(.*?)<td data-title="expected">(.*?)<td data-title="found">(.*?)<td class="bar met">(.*)', shown
    )
    assert [(html.unescape(name), found) for name, _, found, _ in rows] == [
        (outcome.partition(": ")[2], found) for outcome, found in report["outcomes"].items()
    ]
    assert all(expected for _, expected, _, _ in rows)
    assert [name for name, _, _, bar in rows if not bar] == ["labels in use"] * 2


def test_the_report_page_shows_the_images_that_broke_an_expectation(params: Params, subset: Splits, tmp_path: Path) -> None:
    def darken(images: Any, _: Any) -> None:
        images[[7, 40]] //= 4

    bad = poisoned(subset, "test", darken)
    write_source(tmp_path / "source", bad)
    refused(params, Paths())

    shown = Paths().report_page.read_text()
    (row,) = re.findall(r'id="(e\d+)"><td class="sign broken">✗<td class="name">pixel maximum of each image', shown)
    assert f'<a href="#{row}">test split, pixel maximum of each image</a>' in shown
    _, _, after = shown.partition(f'id="{row}"')
    assert "validate.pixel_maximum: [128, 255] -&gt; [" in after.partition("<details open>")[0]
    found = re.findall(r'base64,([^"]+)"><figcaption>#(\d+): (\d+)<', after.partition("</details>")[0])
    assert [(int(index), int(label)) for _, index, label in found] == [(row, bad["test"].labels[row]) for row in (7, 40)]
    for content, index, _ in found:
        with Image.open(io.BytesIO(base64.b64decode(content))) as image:
            np.testing.assert_array_equal(np.asarray(image), bad["test"].images[int(index)])


def test_the_data_docs_have_the_permissions_of_their_parent(good: Repository) -> None:
    assert good.paths.data_docs.stat().st_mode == good.paths.validation.stat().st_mode


def test_a_second_run_writes_the_same_bytes(good: Repository) -> None:
    first = contents(good.paths.validation)

    result = validate.run(good.params, good.paths)

    assert result == "45 expectations met on 4,000 images"
    assert len(first) == 7
    assert contents(good.paths.validation) == first


def unknown_label(_: Any, labels: Any) -> None:
    labels[[3, 4, 7]] = 10


def without_sevens(images: Any, labels: Any) -> Any:
    return images[labels != 7], labels[labels != 7]


def imbalanced(_: Any, labels: Any) -> None:
    labels[:900] = 1


def blank(images: Any, _: Any) -> None:
    images[:4] = 0


def inverted(images: Any, labels: Any) -> Any:
    return 255 - images, labels


def too_much_ink(images: Any, _: Any) -> None:
    images[[8, 9]] = np.maximum(images[[8, 9]], 1)
    images[[8, 9], 0, :14] = 0


def too_bright(images: Any, _: Any) -> None:
    images[images > 0] = 255


def repeated(images: Any, labels: Any) -> None:
    images[100:110], labels[100:110] = images[0], labels[0]


KL = "KL divergence of the classes from the other split's"


@pytest.mark.parametrize(
    ("split", "change", "line", "others"),
    [
        (
            "train",
            unknown_label,
            "label of each image: expected 0 to 9, found 3 of 3,000 images outside: #3 (10), #4 (10), #7 (10)",
            {f"train split, {KL}"},
        ),
        (
            "train",
            without_sevens,
            "labels in use: expected each of 0 to 9, found no 7",
            {"train split, rows", "train split, share of class 7", f"train split, {KL}", f"test split, {KL}"},
        ),
        (
            "test",
            without_sevens,
            "labels in use: expected each of 0 to 9, found no 7",
            {
                "test split, rows",
                "test split, share of class 1",
                "test split, share of class 7",
                f"test split, {KL}",
                f"train split, {KL}",
            },
        ),
        (
            "train",
            imbalanced,
            "share of class 1: expected 0.07 to 0.13, found 0.37767",
            {
                *(f"train split, share of class {label}" for label in (0, 2, 3, 5, 8, 9)),
                f"train split, {KL}",
                f"test split, {KL}",
            },
        ),
        (
            "train",
            blank,
            "blank images: expected none, found 4 of 3,000 images: #0, #1, #2, …",
            {
                "train split, ink fraction of each image",
                "train split, pixel maximum of each image",
                "train split, conflicting labels",
            },
        ),
        (
            "test",
            inverted,
            "ink fraction of each image: expected 0.02 to 0.6, "
            "found 1,000 of 1,000 images outside: #0 (0.99872), #1 (0.99745), #2 (0.99872), …",
            {"test split, pixel minimum of each image", "test split, mean intensity"},
        ),
        (
            "train",
            too_much_ink,
            "ink fraction of each image: expected 0.02 to 0.6, found 2 of 3,000 images outside: #8 (0.98214), #9 (0.98214)",
            set(),
        ),
        ("train", too_bright, "mean intensity: expected 25 to 45, found 48.832", set()),
        (
            "train",
            repeated,
            "share of duplicate images: expected at most 0.001, found 0.0033333",
            set(),
        ),
    ],
    ids=[
        "unknown label",
        "class missing in train",
        "class missing in test",
        "imbalance",
        "blank images",
        "inverted images",
        "too much ink",
        "too bright",
        "repeated images",
    ],
)
def test_bad_data_is_refused_and_reported(
    split: str, change: Any, line: str, others: set[str], params: Params, subset: Splits, tmp_path: Path
) -> None:
    write_source(tmp_path / "source", poisoned(subset, split, change))

    lines = refused(params, Paths())

    assert f"{split} split, {line}" in lines
    assert {found.split(": ")[0] for found in lines} == {f"{split} split, {line.split(': ')[0]}"} | others
    report = files.read_json(Paths().report)
    assert report["success"] is False
    assert [line.partition("; ")[0] for line in report["broken"]] == lines
    assert report["expectations"] == {"met": 45 - len(lines), "broken": len(lines)}
    assert "Failed" in page(Paths(), split)


@pytest.mark.usefixtures("without_pages")
def test_a_wrong_number_of_images_is_refused(params: Params, edit: Edit) -> None:
    changed = edit({"validate.rows": {"train": [4000, 1_000_000], "test": [999, 999]}})

    assert refused(changed, Paths()) == [
        "train split, rows: expected 4,000 to 1,000,000, found 3,000",
        "test split, rows: expected 999, found 1,000",
    ]


@pytest.mark.usefixtures("without_pages")
def test_a_single_leaked_test_image_is_reported_with_its_index(params: Params, subset: Splits, tmp_path: Path) -> None:
    leaking = subset["train"].images.copy()
    leaking[17] = subset["test"].images[5]
    write_source(tmp_path / "source", {**subset, "train": Split(leaking, subset["train"].labels)})

    lines = refused(params, Paths())

    assert lines == ["train split, leaked test images: expected none, found 1 of 3,000 images: #17"]


LABEL_ISSUES = "label issues"
CONFLICTING = "conflicting labels"


def mislabelled(_: Any, labels: Any) -> None:
    labels[::20] = (labels[::20] + 1) % 10


def copied_shifted(images: Any, labels: Any) -> None:
    images[100:110] = np.roll(images[:10], 1, axis=2)
    labels[100:110] = labels[:10]


def copied_under_another_label(images: Any, labels: Any) -> None:
    copied_shifted(images, labels)
    labels[102] = (labels[2] + 1) % 10


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.usefixtures("without_pages")
def test_wrong_labels_are_counted_and_examples_are_listed(split: str, params: Params, subset: Splits, tmp_path: Path) -> None:
    write_source(tmp_path / "source", poisoned(subset, split, mislabelled))
    rows = len(subset[split].labels)

    lines = refused(params, Paths())

    (line,) = (line for line in lines if line.startswith(f"{split} split, {LABEL_ISSUES}: expected at most 0.002, plus "))
    count, total, examples = re.search(r"sampling tolerance, found (\d+) of ([0-9,]+) images: (.*), …$", line).groups()  # type: ignore[union-attr]
    assert 0.2 * rows / 20 < int(count) < 0.9 * rows / 20
    assert total == f"{rows:,}"
    assert sum(int(number) % 20 == 0 for number in re.findall(r"#(\d+)", examples)) >= 2  # of three examples


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (copied_shifted, ["share of duplicate images: expected at most 0.001, found 0.0033333"]),
        (
            copied_under_another_label,
            [
                "share of duplicate images: expected at most 0.001, found 0.0033333",
                f"{CONFLICTING}: expected none, found 1 of 3,000 images: #102",
            ],
        ),
    ],
)
@pytest.mark.usefixtures("without_pages")
def test_a_shifted_copy_is_a_duplicate(change: Any, lines: list[str], params: Params, subset: Splits, tmp_path: Path) -> None:
    write_source(tmp_path / "source", poisoned(subset, "train", change))

    assert refused(params, Paths()) == [f"train split, {line}" for line in lines]


@pytest.mark.usefixtures("without_pages")
def test_a_shifted_test_image_is_a_leak(params: Params, subset: Splits, tmp_path: Path) -> None:
    def leaking(images: Any, _: Any) -> None:
        images[17] = np.roll(subset["test"].images[5], 1, axis=1)

    write_source(tmp_path / "source", poisoned(subset, "train", leaking))

    assert refused(params, Paths()) == ["train split, leaked test images: expected none, found 1 of 3,000 images: #17"]


@pytest.mark.parametrize(
    ("change", "bounds"),
    [
        (mislabelled, {"validate.label_issues": 1.0}),
        (copied_shifted, {"validate.near_duplicate_distance": 0.0}),
        (copied_under_another_label, {"validate.duplicates": 0.004, "validate.conflicting_labels": 1 / 3000}),
    ],
)
@pytest.mark.usefixtures("without_pages")
def test_every_bound_on_comparisons_between_images_can_be_loosened(
    change: Any, bounds: dict[str, float], params: Params, edit: Edit, subset: Splits, tmp_path: Path
) -> None:
    write_source(tmp_path / "source", poisoned(subset, "train", change))
    changed = edit(bounds)
    fetch.run(changed, Paths())

    validate.run(changed, Paths())

    assert files.read_json(Paths().report)["success"] is True


@pytest.mark.usefixtures("without_pages")
def test_the_divergence_is_the_kullback_leibler_divergence(params: Params, subset: Splits, tmp_path: Path) -> None:
    changed = poisoned(subset, "train", imbalanced)
    write_source(tmp_path / "source", changed)
    train, test = (np.bincount(changed[split].labels) / len(changed[split].labels) for split in ("train", "test"))

    lines = refused(params, Paths())

    assert f"train split, {KL}: expected at most 0.01, found {(train * np.log(train / test)).sum():.5g}" in lines
    assert f"test split, {KL}: expected at most 0.01, found {(test * np.log(test / train)).sum():.5g}" in lines


@pytest.mark.usefixtures("without_pages")
def test_repeated_images_up_to_the_bound_are_accepted(params: Params, edit: Edit, subset: Splits, tmp_path: Path) -> None:
    write_source(tmp_path / "source", poisoned(subset, "train", repeated))

    changed = edit({"validate.duplicates": 10 / 3000})
    fetch.run(changed, Paths())
    validate.run(changed, Paths())

    assert files.read_json(Paths().report)["train"]["repeated_images"] == 10


@pytest.mark.usefixtures("without_pages")
def test_errors_use_the_class_names(params: Params, edit: Edit) -> None:
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    changed = edit({"fetch.classes": names, "validate.class_share": [0.08, 0.12]})

    assert refused(changed, Paths()) == ["test split, share of class one: expected 0.08 to 0.12, found 0.126"]
    assert list(files.read_json(Paths().report)["test"]["classes"]) == names


def test_fixed_data_replaces_refused_data(params: Params, subset: Splits, tmp_path: Path) -> None:
    write_source(tmp_path / "source", poisoned(subset, "train", blank))
    refused(params, Paths())
    write_source(tmp_path / "source", subset)

    fetch.run(params, Paths())
    validate.run(params, Paths())

    assert files.read_json(Paths().report)["success"] is True
    assert "Failed<" not in page(Paths(), "train")


def test_the_command_exits_with_1_prints_the_reason_and_writes_the_same_bytes(
    params: Params, subset: Splits, tmp_path: Path
) -> None:
    write_source(tmp_path / "source", poisoned(subset, "train", unknown_label))
    lines = refused(params, Paths())
    here = contents(Paths().validation)

    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "1", "TZ": "<-03>3"}
    command = [sys.executable, "-m", "pipeline.validate"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)

    assert ended.returncode == 1
    assert ended.stderr.startswith(f"error: the data broke {len(lines)} expectations:\n  {lines[0]}; ")
    assert len(ended.stderr.splitlines()) == len(lines) + 2
    assert contents(Paths().validation) == here


@pytest.mark.skipif(not LONG, reason="runs the stage again: make chaos")
def test_pages_that_cannot_be_written_give_one_error_and_keep_the_old_pages(good: Repository, tmp_path: Path) -> None:
    root = shutil.copytree(good.paths.root, tmp_path / "copy")
    before = contents(Paths(root).validation)

    def allow_small_files() -> None:
        limit = 50_000  # bytes; the longest pages are larger
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command, environment = [sys.executable, "-m", "pipeline.validate"], os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False, preexec_fn=allow_small_files
    )

    assert ended.returncode == 1, ended.stdout
    assert len(ended.stderr.splitlines()) == 2, ended.stderr
    assert ended.stderr.startswith("error: ")
    assert contents(Paths(root).validation) == before


def extra(mnist: Splits, count: int = 300, change: Callable[[Any, Any], Any] | None = None) -> None:
    """Write `count` other images of MNIST, changed as by `poisoned`, to `more.npz`."""
    added = Split(mnist["train"].images[5000 : 5000 + count], mnist["train"].labels[5000 : 5000 + count])
    split = poisoned({"train": added}, "train", change)["train"] if change else added
    np.savez("more.npz", images=split.images, labels=split.labels)


MORE = {"fetch.extra": [{"name": "more", "source": "more.npz"}]}
MIX, INTENSITIES = (f"KL divergence of the {what} from the base's" for what in ("classes", "mean intensities"))


def observed(line: str) -> tuple[float, float]:
    """The bound in a line, sampling tolerance included, and the value found."""
    bound, allowed, found = re.fullmatch(r".*at most (\S+), plus (\S+) sampling tolerance, found (\S+)", line).groups()  # type: ignore[union-attr]
    return float(bound) + float(allowed), float(found)


def test_an_extra_data_set_of_the_same_kind_passes(params: Params, edit: Edit, mnist: Splits) -> None:
    extra(mnist)
    changed = edit(MORE)  # validate.rows.train is still 3,000, for the base alone
    fetch.run(changed, Paths())

    result = validate.run(changed, Paths())

    report = files.read_json(Paths().report)
    assert result == "49 expectations met on 4,300 images"
    assert (report["train"]["rows"], report["extra-more"]["rows"]) == (3300, 300)
    assert report["outcomes"]["train: rows"] == "3,300"
    assert f"{MIX}: at most 0.1, plus " in page(Paths(), "extra-more")
    assert ">extra more</a>" in (Paths().data_docs / "index.html").read_text()
    first = contents(Paths().validation)
    validate.run(changed, Paths())
    assert contents(Paths().validation) == first


@pytest.mark.parametrize("count", [12, 60, 300, 2000])
def test_sampling_variation_raises_no_alarm_at_any_size(count: int, params: Params, mnist: Splits) -> None:
    base = mnist["train"].labels[:3000]
    labels = mnist["train"].labels[3000:]
    shares = np.bincount(base, minlength=10) / len(base)
    alarms, rounds = 0, 200

    for start in np.random.default_rng(0).integers(0, len(labels) - count, rounds):
        drawn = np.bincount(labels[start : start + count], minlength=10) / count
        divergence = sum(share * np.log(share / shares[label]) for label, share in enumerate(drawn) if share)
        alarms += divergence > params.validate_.extra.class_divergence + expectations.divergence_tolerance(10, (3000, count))

    assert alarms <= 4  # at a rate of 0.001, more than 4 have a probability below 1e-5


@pytest.mark.usefixtures("without_pages")
def test_an_inverted_extra_data_set_is_refused(params: Params, edit: Edit, mnist: Splits) -> None:
    extra(mnist, change=inverted)

    lines = refused(edit(MORE), Paths())

    (line,) = (line for line in lines if line.startswith("extra more, "))
    assert line.startswith(f"extra more, {INTENSITIES}: expected at most 0.1, plus ")
    allowed, found = observed(line)
    assert allowed < found == pytest.approx(np.log(10), abs=0.02)  # all images in one of ten bands
    assert any(
        line.startswith("train split, ink fraction of each image: ") and "300 of 3,300 images outside: #0 of more (" in line
        for line in lines
    )
    assert files.read_json(Paths().report)["success"] is False


@pytest.mark.usefixtures("without_pages")
def test_an_extra_data_set_of_few_classes_is_refused(params: Params, edit: Edit, mnist: Splits, subset: Splits) -> None:
    extra(mnist, 1000, lambda images, labels: (images[labels < 3], labels[labels < 3]))
    added = np.load("more.npz")["labels"]
    base = np.bincount(subset["train"].labels) / 3000
    mix = np.bincount(added) / len(added)

    lines = refused(edit(MORE), Paths())

    (line,) = (line for line in lines if line.startswith(f"extra more, {MIX}"))
    assert observed(line)[1] == pytest.approx((mix * np.log(mix / base[:3])).sum(), rel=1e-4)


@pytest.mark.usefixtures("without_pages")
def test_a_leaked_test_image_is_reported_with_its_data_set_and_index(
    params: Params, edit: Edit, mnist: Splits, subset: Splits
) -> None:
    def leaking(images: Any, _: Any) -> None:
        images[17] = subset["test"].images[5]

    extra(mnist, change=leaking)

    assert refused(edit(MORE), Paths()) == [
        "train split, leaked test images: expected none, found 1 of 3,300 images: #17 of more"
    ]


@pytest.mark.usefixtures("without_pages")
def test_unknown_labels_are_reported_with_their_data_set_and_index(params: Params, edit: Edit, mnist: Splits) -> None:
    extra(mnist, change=unknown_label)

    lines = refused(edit(MORE), Paths())

    found = "3 of 3,300 images outside: #3 of more (10), #4 of more (10), #7 of more (10)"
    assert lines[0] == f"train split, label of each image: expected 0 to 9, found {found}"


@pytest.mark.usefixtures("without_pages")
def test_wrong_labels_in_an_extra_data_set_are_reported_for_that_set(params: Params, edit: Edit, mnist: Splits) -> None:
    extra(mnist, 600, mislabelled)

    lines = refused(edit(MORE), Paths())

    assert len(lines) == 1
    assert lines[0].startswith(f"extra more, {LABEL_ISSUES}: expected at most 0.002, plus ")


@pytest.mark.usefixtures("without_pages")
def test_an_extra_data_set_that_repeats_the_base_is_refused(params: Params, edit: Edit, mnist: Splits, subset: Splits) -> None:
    def copies(images: Any, labels: Any) -> None:
        images[:2], labels[:2] = subset["train"].images[:2], subset["train"].labels[:2]

    extra(mnist, change=copies)

    assert refused(edit(MORE), Paths()) == ["extra more, share of duplicate images: expected at most 0.001, found 0.0066667"]


@pytest.mark.usefixtures("without_pages")
def test_an_extra_data_set_does_not_hide_a_truncated_base(params: Params, edit: Edit, mnist: Splits) -> None:
    extra(mnist)
    changed = edit(MORE | {"validate.rows": {"train": [3200, 4000], "test": [1000, 1000]}})

    assert refused(changed, Paths()) == ["train split, rows: expected 3,200 to 4,000 and 300 extra, found 3,300"]


def test_each_intensity_band_holds_a_tenth_of_the_base_unless_images_are_equal() -> None:
    table = pd.DataFrame({"mean": [*np.random.default_rng(0).permutation(100.0 + np.arange(50)), 0, 200]})
    assert image_table.add_intensity_bands(table, 50) == [0.1] * 10
    assert list(table["intensity_band"][50:]) == [0, 9]

    equal = pd.DataFrame({"mean": [5.0] * 20 + [4, 5, 6]})
    shares = image_table.add_intensity_bands(equal, 20)
    assert sum(shares) == max(shares) == 1
    assert list(equal["intensity_band"][20:]) == [0, 9, 9]


@pytest.mark.usefixtures("without_pages")
def test_a_check_that_cannot_run_fails_and_gives_the_reason(params: Params, subset: Splits, tmp_path: Path) -> None:
    table = image_table.summarise(subset["test"], 10).drop(columns="mean")
    suite = expectations.suite("test", 1000, [0.1] * 10, [str(label) for label in range(10)], params.validate_)

    outcomes = expectations.check({"test": table}, {"test": suite}, "broken", tmp_path / "docs")

    (outcome,) = (outcome for outcome in outcomes if outcome.expectation == "mean intensity")
    assert outcome.success is False
    assert outcome.observed.startswith("a check that could not run: ")
    assert '"mean"' in outcome.observed


def test_a_table_without_images_gives_outcomes_without_bars(params: Params, subset: Splits, tmp_path: Path) -> None:
    table = image_table.summarise(Split(*(array[:1] for array in subset["test"])), 10)[:0]
    suite = [expectations._each("pixel maximum of each image", "pixel_maximum", (128, 255), column="maximum")]

    (outcome,) = expectations.check({"test": table}, {"test": suite}, "empty", tmp_path / "docs")

    assert (outcome.observed, outcome.measured, outcome.images) == ("0 of 0 images", None, ())


def test_an_image_is_summarised_by_ink_mean_extremes_and_duplication() -> None:
    images = np.array([[[0, 0], [10, 30]], [[5, 5], [5, 5]], [[0, 0], [10, 30]]], np.uint8)

    table = image_table.summarise(Split(images, np.array([1, 0, 1], np.uint8)), 2)

    expected = {
        "label": [1, 0, 1],
        "ink": [0.5, 1, 0.5],
        "mean": [10, 5, 10],
        "minimum": [0, 5, 0],
        "maximum": [30, 5, 30],
        "duplicate": [False, False, True],
        "is_0": [0, 1, 0],
        "is_1": [1, 0, 1],
    }
    pd.testing.assert_frame_equal(table[list(expected)], pd.DataFrame(expected), check_dtype=False)
    assert table["content_hash"].nunique() == 2


def test_a_summary_in_several_chunks_equals_one_in_a_single_chunk(subset: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = image_table.summarise(subset["test"], 10)

    monkeypatch.setattr(image_table, "_CHUNK", 300)

    pd.testing.assert_frame_equal(image_table.summarise(subset["test"], 10), whole)


def test_class_shares_are_relative_to_all_labels_including_unknown_ones() -> None:
    assert image_table.class_shares(np.array([0, 0, 2, 7], np.uint8), 4) == [0.5, 0, 0.25, 0]


def remedies(params: Params, paths: Paths) -> list[str]:
    """What follows each broken expectation: its parameter, and a value that would pass."""
    fetch.run(params, paths)
    with pytest.raises(InvalidDataError, match=r"fix the data, or the parameter in params\.yaml that a line names") as raised:
        validate.run(params, paths)
    return [line.partition("; ")[2] for line in str(raised.value).splitlines()[1:-1]]


def poor(images: Any, labels: Any) -> None:
    """Break every expectation that a parameter governs."""
    images[:4] = 0
    images[4:400] = images[4]
    images[1000:2000] = 255 - images[1000:2000]
    labels[:300] = 3


@pytest.mark.usefixtures("without_pages")
def test_every_broken_expectation_names_its_parameter_and_a_value_that_passes(
    params: Params, edit: Edit, subset: Splits, tmp_path: Path
) -> None:
    data = poisoned(subset, "train", poor)
    data["train"].images[-2:] = data["test"].images[:2]
    write_source(tmp_path / "source", data)
    changed = edit({"validate.rows": {"train": [4000, 5000], "test": [1000, 1000]}, "validate.mean_intensity": [25, 26]})

    found = remedies(changed, Paths())

    values: dict[str, Any] = {}
    for line in found:
        key, value = re.fullmatch(r"(validate\.[\w.]+): .* -> (.+) would pass", line).groups()  # type: ignore[union-attr]
        read = YAML(typ="safe").load(value)
        before = values.setdefault(key, read)
        values[key] = [min(before[0], read[0]), max(before[1], read[1])] if isinstance(read, list) else max(before, read)
    assert values.keys() >= {
        *("validate.rows.train", "validate.mean_intensity", "validate.leaked", "validate.duplicates", "validate.ink_fraction"),
        *("validate.class_share", "validate.class_divergence", "validate.label_issues", "validate.conflicting_labels"),
        *("validate.pixel_minimum", "validate.pixel_maximum"),
    }
    validate.run(edit(values), Paths())  # they pass


@pytest.mark.usefixtures("without_pages")
def test_labels_that_no_parameter_governs_are_said_to_be_so(params: Params, subset: Splits, tmp_path: Path) -> None:
    write_source(tmp_path / "source", poisoned(subset, "train", unknown_label))

    assert "no parameter of validate governs it: fetch.classes names the labels" in remedies(params, Paths())


@pytest.mark.usefixtures("without_pages")
def test_remedies_of_an_extra_data_set_allow_for_the_sampling_tolerance(params: Params, edit: Edit, mnist: Splits) -> None:
    def one_class(images: Any, labels: Any) -> None:
        images[:], labels[:] = images[labels == labels[0]][0], labels[0]

    extra(mnist, change=one_class)

    found = remedies(edit(MORE), Paths())

    assert any(line.startswith("validate.extra.class_divergence: 0.1 -> ") for line in found)
    assert any(line.startswith("validate.extra.intensity_divergence: 0.1 -> ") for line in found)
