"""The content of the page: snapshots, metrics and images, compared with numpy and ONNX Runtime."""

import base64
import json
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import explain, explore
from pipeline.core import files, params
from pipeline.core.errors import MissingInputError, UnusableInputError
from pipeline.core.paths import Paths
from pipeline.data.datasets import Split
from pipeline.explorer import network, page
from pipeline.inference import onnx_model
from pipeline.inference.onnx_model import OnnxModel
from pipeline.training import augmentation, snapshots
from pipeline.training.snapshots import Snapshot, SnapshotRecorder
from tests.conftest import ROOT, Repository

STYLES = (ROOT / "pipeline" / "explorer" / "web" / "style.css").read_text()


def random_weights(random: Any, *units: int) -> list[Any]:
    """Kernels and biases of a network with these numbers of units; the first is the number of inputs."""
    pairs = pairwise(units)
    return [array for into, out in pairs for array in (random.normal(size=(into, out)), random.normal(size=out))]


@pytest.fixture
def random() -> Any:
    return np.random.default_rng(0)


@pytest.fixture
def copy(built: Repository, tmp_path: Path) -> Repository:
    shutil.copytree(built.paths.root / "data", tmp_path / "data")
    return Repository(built.params, Paths(tmp_path))


@pytest.mark.parametrize(
    ("total", "expected"),
    [(1, [0]), (2, [0, 1]), (256, [0, 1, 2, 4, 8, 16, 32, 64, 128]), (3, [0, 1, 2]), (25, [0, 1, 2, 3, 4, 5, 7, 11, 17])],
)
def test_snapshots_start_at_step_0_and_grow_apart_geometrically(total: int, expected: list[int]) -> None:
    assert snapshots.schedule(total) == expected


@pytest.mark.parametrize("total", [5, 374, 100_000])
def test_there_are_at_most_nine_snapshots_before_the_end(total: int) -> None:
    steps = snapshots.schedule(total)

    assert steps == sorted(set(steps))
    assert steps[0] == 0
    assert steps[-1] < total
    assert len(steps) <= 9


def test_a_recorder_reads_the_weights_at_scheduled_steps_only() -> None:
    recorder, read = SnapshotRecorder(), []

    def weights(step: int) -> Any:
        read.append(step)
        return [np.full((2, 2), step, np.float32)]

    recorder.start(256)
    for step in range(257):
        recorder.offer(step, step / 64, lambda step=step: weights(step))

    assert read == [0, 1, 2, 4, 8, 16, 32, 64, 128]
    assert [snapshot.epoch for snapshot in recorder.taken] == [step / 64 for step in read]


def test_saved_snapshots_keep_three_digits(random: Any, tmp_path: Path) -> None:
    taken = [
        Snapshot(epoch, [array.astype(np.float32) for array in random_weights(random, 9, 5, 3)]) for epoch in (0.0, 0.25, 3.0)
    ]

    snapshots.save(taken, tmp_path / "snapshots.npz")

    for loaded, wanted in zip(snapshots.load(tmp_path / "snapshots.npz"), taken, strict=True):
        assert loaded.epoch == wanted.epoch
        for array, expected in zip(loaded.weights, wanted.weights, strict=True):
            np.testing.assert_allclose(array, expected, rtol=1e-3)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 no archive"])
@pytest.mark.parametrize("read", [snapshots.load, snapshots.load_distorted], ids=["load", "load_distorted"])
def test_a_file_without_snapshots_is_refused(read: Any, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "snapshots.npz"
    with pytest.raises(MissingInputError):
        read(path)
    path.write_bytes(content)

    with pytest.raises(UnusableInputError, match=r"snapshots.npz: expected (snapshots|distorted images)"):
        read(path)


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", epochs=np.array([0.0]), weights_0=np.array([{}], dtype=object))
    np.save(tmp_path / "b.npy", np.array([{}], dtype=object))

    for read, name in ((snapshots.load, "a.npz"), (snapshots.load_distorted, "b.npy")):
        with pytest.raises(UnusableInputError):
            read(tmp_path / name)


def test_train_writes_snapshots_from_the_random_start_on(built: Repository, subset: dict[str, Split]) -> None:
    taken = snapshots.load(built.paths.snapshots)

    assert [snapshot.epoch for snapshot in taken] == sorted({snapshot.epoch for snapshot in taken})
    assert taken[0].epoch == 0
    assert taken[-1].epoch < built.params.train.epochs
    assert [array.shape for array in taken[0].weights] == [(784, 256), (256,), (256, 10), (10,)]
    assert not taken[0].weights[1].any()  # biases start at zero
    losses = [network.evaluate(snapshot.weights, "relu", subset["test"])["loss"] for snapshot in taken]
    assert losses[0] > 2 > losses[-1]


def test_the_augmented_examples_have_one_row_per_class(built: Repository, subset: dict[str, Split]) -> None:
    images = snapshots.load_distorted(built.paths.distorted)

    assert images.shape == (10, 6, 28, 28)
    train = {image.tobytes(): label for image, label in zip(*subset["train"], strict=True)}
    assert [train[row[0].tobytes()] for row in images] == list(range(10))
    for row in images:
        assert len({image.tobytes() for image in row}) == 6
        assert np.abs(row[1:].astype(int) - row[0]).mean() < 60  # still recognizable


def test_examples_without_augmentation_are_the_original_images(subset: dict[str, Split]) -> None:
    zeros = dict.fromkeys(("rotation", "scale", "shear", "shift", "elastic"), 0)
    none = params.load(ROOT / "params.yaml").train.augmentation.model_copy(update=zeros)

    examples = augmentation.examples(subset["train"].images[:3], 2, none, 0)

    np.testing.assert_array_equal(examples, np.repeat(subset["train"].images[:3, None], 3, axis=1))


def test_quantization_changes_no_weight_by_more_than_half_a_step(random: Any) -> None:
    kernel, bias = random_weights(random, 50, 8)
    kernel[:, 3] = 0

    rounded, same_bias = network.round_trip([kernel, bias])

    assert (np.abs(rounded - kernel) <= np.abs(kernel).max(axis=0) / 127 * 0.5001).all()
    assert same_bias is bias


def test_forward_equals_onnx_runtime(built: Repository, subset: dict[str, Split]) -> None:
    weights = network.exported_weights(onnx_model.dense_layers(built.paths.onnx))

    probabilities = network.forward(weights, "relu", subset["test"].images)

    np.testing.assert_allclose(probabilities, OnnxModel(built.paths.onnx).predict(subset["test"].images), rtol=0, atol=1e-6)


def test_the_random_start_and_as_many_snapshots_as_fit_are_chosen(random: Any) -> None:
    taken = [Snapshot(epoch, []) for epoch in range(9)]

    def chosen(*units: int) -> list[float]:
        return [snapshot.epoch for snapshot in page.choose(taken, random_weights(random, *units))]

    assert chosen(784, 256, 10) == list(range(9))
    assert chosen(784, 512, 10) == [0, 8]
    assert chosen(784, 2000, 10) == [0]


def test_a_network_that_makes_too_large_a_page_gets_a_note(copy: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MOST_BYTES", 1_500_000)

    result = explain.run(copy.params, copy.paths)

    reason = "With 203,530 parameters and images of 28x28, the page would have 2 MB; at most 2 MB are written."
    assert f"index.html holds a note instead of the network. {reason}" in result
    assert reason in copy.paths.page.read_text(encoding="utf-8")
    assert copy.paths.page.stat().st_size < 1000


@pytest.mark.parametrize(("side", "fits"), [(28, True), (64, True), (224, False)])
def test_pages_are_bounded(side: int, fits: bool) -> None:
    weights = [np.broadcast_to(np.float32(0), shape) for shape in ((side * side, 256), (256,), (256, 10), (10,))]

    assert (page.least_bytes(weights, 130, side * side) <= page.MOST_BYTES) == fits


def test_class_means_equal_numpys(subset: dict[str, Split]) -> None:
    images, labels = subset["train"]

    means = page.class_means(subset["train"], 11)

    for digit in range(10):
        np.testing.assert_allclose(means[digit], images[labels == digit].mean(axis=0), atol=0.5001)
    assert not means[10].any()


def test_samples_alternate_between_the_classes() -> None:
    labels = np.array([2, 0, 0, 2, 2, 0, 1], np.uint8)

    assert page.samples(labels, 2).tolist() == [1, 6, 0, 2, 3]


def test_the_most_confident_mistakes_come_first() -> None:
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.05, 0.95], [0.2, 0.8]], np.float32)

    assert page.mistakes(np.array([0, 1, 0, 0], np.uint8), probabilities, 2).tolist() == [2, 3]


def test_the_page_is_deterministic_and_contains_the_metrics(copy: Repository) -> None:
    before = copy.paths.page.read_bytes()
    copy.paths.page.unlink()

    printed = explain.run(copy.params, copy.paths)

    assert copy.paths.page.read_bytes() == before
    assert "MB: `make explore`" in printed
    content = explain.content(copy.params, copy.paths)
    assert content["data"]["counts"]["train"] == np.bincount(np.load(copy.paths.raw / "train_labels.npy")).tolist()
    exported = content["snapshots"][-1]
    assert (exported["accuracy"], exported["epoch"]) == (
        files.read_json(copy.paths.metrics)["accuracy"],
        copy.params.train.epochs,
    )
    kernel = np.frombuffer(base64.b64decode(exported["layers"][0]["kernel"]), "<f4").reshape(784, 256)
    np.testing.assert_array_equal(kernel, onnx_model.dense_layers(copy.paths.onnx)[0].kernel)


def test_the_page_refers_to_no_other_file_or_address(built: Repository) -> None:
    html = built.paths.page.read_text()

    assert "{{" not in html
    assert re.findall(r"(?:src|href)=\"([^\"]*)\"", html) == ["data:,", "#draw"]
    assert not re.search(r"https?://|@import|url\(", html)


def test_class_names_cannot_end_the_json_element(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text('<script type="application/json">{{data}}</script>\n')

    html = page.render({"classes": ["</script><b>", "é"]}, tmp_path / "page.html")

    assert html.count("</script>") == 1
    assert json.loads(html.split(">", 1)[1].rsplit("<", 1)[0]) == {"classes": ["</script><b>", "é"]}


def luminance(colour: str) -> float:
    """The relative luminance of `#rrggbb`, as WCAG 2.2 defines it."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_meet_the_contrast_of_wcag_aa(theme: str) -> None:
    blocks = re.findall(r":root \{(.*?)\}", STYLES, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[["light", "dark"].index(theme)]))

    def contrast(one: str, other: str) -> float:
        low, high = sorted(luminance(colours[name]) for name in (one, other))
        return (high + 0.05) / (low + 0.05)

    for text, background in (
        ("ink", "ground"),
        ("ink", "panel"),
        ("muted", "ground"),
        ("muted", "panel"),
        ("on-accent", "accent"),
    ):
        assert contrast(text, background) >= 4.5, (text, background)
    for graphic in ("accent", "positive", "negative", "lit", "muted"):
        assert contrast(graphic, "ground") >= 3, graphic
        assert contrast(graphic, "panel") >= 3, graphic


def test_explore_opens_the_page_or_prints_its_path(built: Repository, monkeypatch: Any, capsys: Any) -> None:
    opened: list[str] = []
    monkeypatch.setattr(explore.webbrowser, "open", lambda address: opened.append(address) or len(opened) > 1)

    for _ in range(2):
        assert explore.run(None, built.params, built.paths) == 0

    assert opened == [built.paths.page.absolute().as_uri()] * 2
    without_browser, with_browser = capsys.readouterr().out.splitlines()
    assert "no browser on this machine" in without_browser
    assert "in your browser" in with_browser
