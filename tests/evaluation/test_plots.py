"""The content of the plots. No text in them is cut off or overlaps."""

import io
import itertools
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from pipeline.core.params import DriftParams
from pipeline.data.datasets import Pixels, Split
from pipeline.evaluation import metrics, plots, style
from pipeline.inference.onnx_model import Dense
from pipeline.monitoring import drift
from pipeline.monitoring import plots as drift_plots
from pipeline.monitoring.drift import Features

TWO, TEN = ("no", "yes"), tuple("0123456789")
LONG = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
MANY = tuple(str(number) for number in range(30))


@pytest.fixture
def texts_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Figure], list[Text]]:
    """Return a function that saves a figure and returns its texts. Warnings of matplotlib are errors."""
    texts: list[Text] = []
    draw = Text.draw

    def record(text: Text, *arguments: Any, **options: Any) -> None:
        if text.get_visible() and text.get_text().strip():
            texts.append(text)
        draw(text, *arguments, **options)

    def save(figure: Figure) -> list[Text]:
        with monkeypatch.context() as patch, warnings.catch_warnings():
            patch.setattr(Text, "draw", record)
            warnings.simplefilter("error")
            style.save(figure, tmp_path / "figure.png")
        Image.open(tmp_path / "figure.png").verify()
        return list(dict.fromkeys(texts))

    return save


def assert_legible(figure: Figure, texts: Sequence[Text]) -> None:
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    for text, box in boxes:
        cut_off = box.x0 < -1 or box.y0 < -1 or box.x1 > figure.bbox.x1 + 1 or box.y1 > figure.bbox.y1 + 1
        assert not cut_off, f"{text!r} is cut off"
    for (one, first), (other, second) in itertools.combinations(boxes, 2):
        assert not first.padded(-1).overlaps(second.padded(-1)), f"{one!r} overlaps {other!r}"


def random_predictions(classes: Sequence[str], shape: tuple[int, int] = (28, 28)) -> tuple[Split, Any]:
    """200 random images and predictions; about a third of the predictions are wrong."""
    random = np.random.default_rng(0)
    labels = random.integers(0, len(classes), 200).astype(np.uint8)
    labels[: len(classes)] = range(len(classes))
    raw = random.random((200, len(classes))) ** 4
    raw[np.arange(200), labels] += random.random(200)
    return Split(random.integers(0, 256, (200, *shape)).astype(np.uint8), labels), raw / raw.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [TWO, TEN, LONG], ids=["two", "ten", "long"])
def test_the_confusion_matrix_shows_every_count_above_0(classes: Sequence[str], texts_of: Any) -> None:
    test, probabilities = random_predictions(classes)
    counts = metrics.confusion(test.labels, probabilities)
    wrong = int((probabilities.argmax(axis=1) != test.labels).sum())

    figure = plots.confusion_matrix(counts, classes)

    assert_legible(figure, texts_of(figure))
    (axis,) = figure.axes
    shown = {(int(text.get_position()[1]), int(text.get_position()[0])): int(text.get_text()) for text in axis.texts}
    assert shown == {cell: count for cell, count in np.ndenumerate(counts) if count}
    assert f"{wrong} of 200 wrong" in axis.get_title(loc="left")
    assert [label.get_text() for label in axis.get_yticklabels()] == list(classes)


def test_the_size_of_a_confusion_matrix_is_limited() -> None:
    size = plots.confusion_matrix(np.eye(256, dtype=np.int64), [str(number) for number in range(256)]).get_size_inches()

    assert max(size) < 30


@pytest.mark.parametrize(
    ("classes", "shape"),
    [(TWO, (20, 30)), (TEN, (28, 28)), (LONG, (28, 28)), (TEN, (30, 12))],
    ids=["wide images", "digits", "long names", "tall images"],
)
def test_the_worst_mistakes_show_the_most_confident_first(
    classes: Sequence[str], shape: tuple[int, int], texts_of: Any
) -> None:
    test, probabilities = random_predictions(classes, shape)
    predicted_classes, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = sorted(np.flatnonzero(predicted_classes != test.labels), key=lambda index: -confidence[index])

    figure = plots.worst_mistakes(test, probabilities, classes, 13)

    assert_legible(figure, texts_of(figure))
    shown = [axis for axis in figure.axes if axis.images]
    assert [" ".join(axis.get_title().split()) for axis in shown] == [
        f"{classes[test.labels[index]]} → {classes[predicted_classes[index]]}" for index in wrong[:13]
    ]
    np.testing.assert_array_equal(shown[0].images[0].get_array(), test.images[wrong[0]])
    assert f"#{wrong[0]}" in shown[0].texts[0].get_text()


def test_a_gallery_with_few_mistakes_shows_all_of_them(texts_of: Any) -> None:
    labels = np.array([0, 1, 1, 0], np.uint8)

    figure = plots.worst_mistakes(Split(np.zeros((4, 5, 5), np.uint8), labels), np.eye(2)[[0, 0, 1, 0]], TWO, 40)

    assert_legible(figure, texts_of(figure))
    assert figure.get_suptitle().startswith("Most confident mistakes: 1 of 1 ")
    assert len([axis for axis in figure.axes if axis.images]) == 1


def test_a_gallery_without_mistakes_says_so(texts_of: Any) -> None:
    labels = np.array([0, 1], np.uint8)

    figure = plots.worst_mistakes(Split(np.zeros((2, 5, 5), np.uint8), labels), np.eye(2), TWO, 40)

    assert [text.get_text() for text in texts_of(figure)] == ["No mistakes"]


@pytest.mark.parametrize(
    "bins",
    [[(0.2, 0.1, 5), (0.75, 0.8, 10), (1.0, 1.0, 900)], [(1.0, 1.0, 1)], [(0.5, 0.0, 3)]],
    ids=["three", "confident", "wrong"],
)
def test_calibration_shows_a_whole_dot_for_each_bin(bins: list[tuple[float, float, int]], texts_of: Any) -> None:
    figure = plots.calibration(bins)

    assert_legible(figure, texts_of(figure))
    (dots,) = figure.axes[0].collections
    np.testing.assert_allclose(dots.get_offsets(), [entry[:2] for entry in bins])
    assert list(np.argsort(dots.get_sizes(), kind="stable")) == list(np.argsort([entry[2] for entry in bins], kind="stable"))
    assert not dots.get_clip_on()


@pytest.mark.parametrize("classes", [TWO, TEN, LONG, MANY], ids=["two", "ten", "long", "many"])
def test_the_class_distribution_has_a_bar_for_each_class_and_split(classes: Sequence[str], texts_of: Any) -> None:
    counts = {"train": np.arange(len(classes)) + 54_321, "test": np.arange(len(classes))[::-1] + 9_000}

    figure = plots.class_distribution(counts, classes)

    assert_legible(figure, texts_of(figure))
    for axis, (split, of_classes) in zip(figure.axes, counts.items(), strict=True):
        assert [bar.get_height() for bar in axis.patches] == of_classes.tolist()
        assert axis.get_title(loc="left").startswith(f"{split}: {of_classes.sum():,} images")
        assert [label.get_text() for label in axis.get_xticklabels()] == list(classes)


@pytest.mark.parametrize(
    ("units", "title"),
    [(1, "Weights of the hidden neuron"), (10, "the 10 hidden neurons"), (300, "the first 256 of 300 hidden neurons")],
)
@pytest.mark.parametrize("shape", [(28, 28), (8, 20), (20, 6)], ids=["square", "wide", "tall"])
def test_each_hidden_neuron_is_an_image_of_its_weights(units: int, title: str, shape: tuple[int, int], texts_of: Any) -> None:
    height, width = shape
    kernel = np.random.default_rng(0).normal(size=(height * width, units)).astype(np.float32)

    figure = plots.hidden_neurons(kernel, shape)

    assert_legible(figure, texts_of(figure))
    (axis,) = figure.axes
    mosaic = np.asarray(axis.images[0].get_array())
    expected = kernel[:, 0].reshape(shape) / np.abs(kernel[:, 0]).max()
    np.testing.assert_allclose(mosaic[1 : height + 1, 1 : width + 1], expected, rtol=1e-6)
    assert title in figure.get_suptitle()


def test_a_hidden_neuron_without_weights_is_blank(texts_of: Any) -> None:
    figure = plots.hidden_neurons(np.zeros((20, 1), np.float32), (4, 5))

    texts_of(figure)
    assert np.asarray(figure.axes[0].images[0].get_array())[1:5, 1:6].tolist() == [[0] * 5] * 4


def dense(inputs: int, units: int, activation: str = "Relu") -> Dense:
    return Dense(np.zeros((inputs, units), np.float32), np.zeros(units, np.float32), activation)


@pytest.mark.parametrize(
    ("layers", "parameters", "lines"),
    [
        ([dense(784, 256), dense(256, 10, "Softmax")], "203,530", ["256 Relu", "784 x 256 + 256", "= 200,960", "10 Softmax"]),
        ([dense(784, 1), dense(1, 10, "Softmax")], "805", ["1 Relu", "784 x 1 + 1", "= 785"]),
        (
            [dense(784, 2048, "Sigmoid Mul"), dense(2048, 2048, "Pow Mul Add Mul Tanh"), dense(2048, 10, "Softmax")],
            "5,824,522",
            ["2,048 Sigmoid Mul", "2,048 Pow Mul Add Mul …", "= 4,196,352"],
        ),
    ],
    ids=["the default", "one hidden neuron", "two wide layers"],
)
def test_the_layer_diagram_shows_the_number_of_parameters(
    layers: list[Dense], parameters: str, lines: list[str], texts_of: Any
) -> None:
    figure = plots.layer_diagram((28, 28), layers)

    texts = texts_of(figure)
    assert_legible(figure, texts)
    assert figure.axes[0].get_title(loc="left") == f"Network: {parameters} parameters"
    assert set(lines) <= {line for text in texts for line in text.get_text().splitlines()}
    for box, text in zip(figure.axes[0].patches, figure.axes[0].texts[1::2], strict=False):
        assert text.get_window_extent().width < box.get_window_extent().width


@pytest.fixture(scope="module")
def bounds() -> DriftParams:
    return DriftParams(alpha=0.01, min_effect_size=0.1, min_images=1, gallery=10)


def random_features(
    classes: Sequence[str], shape: tuple[int, int] = (28, 28), brightest: int = 256
) -> tuple[Pixels, Features]:
    """200 random images, some almost blank, and the features that drift compares."""
    images = np.random.default_rng(1).integers(0, brightest, (200, *shape)).astype(np.uint8)
    images[::7] //= 200
    return images, {
        **drift.image_features(images),
        **drift.prediction_features(random_predictions(classes, shape)[1].astype(np.float32)),
    }


@pytest.mark.parametrize(
    ("classes", "held_out"), [(TWO, True), (TEN, False), (LONG, True), (MANY, False)], ids=["two", "ten", "long", "many"]
)
def test_titles_of_drift_distributions_say_whether_they_drifted(
    classes: Sequence[str], held_out: bool, bounds: DriftParams, texts_of: Any
) -> None:
    (_, reference), (_, served) = random_features(classes), random_features(classes, brightest=100)
    known = {name: values for name, values in reference.items() if held_out or name != drift.CONFIDENCE}
    checks = drift.compare(known, served, len(classes), bounds)

    figure = drift_plots.distributions(known, served, checks, classes)

    assert_legible(figure, texts_of(figure))
    titles = [axis.get_title(loc="left") for axis in figure.axes][: len(checks)]
    assert [title.partition(" (")[0] for title in titles] == [
        f"{check.feature.replace('_', ' ')}: {'drifted' if check.drifted else 'no drift'}" for check in checks
    ]
    bars = figure.axes[len(checks) - 1].containers
    assert [sum(bar.get_height() for bar in container) for container in bars] == pytest.approx([1, 1])


@pytest.mark.parametrize(
    ("classes", "shape"), [(TWO, (20, 30)), (TEN, (28, 28)), (LONG, (30, 12))], ids=["wide", "digits", "tall, long names"]
)
def test_the_gallery_of_drift_shows_the_most_unusual_images(
    classes: Sequence[str], shape: tuple[int, int], texts_of: Any
) -> None:
    (_, reference), (images, served) = random_features(classes, shape), random_features(classes, shape)

    figure = drift_plots.gallery(reference, served, images, classes, 10)

    assert_legible(figure, texts_of(figure))
    shown = [axis for axis in figure.axes if axis.images]
    for axis, (index, feature) in zip(shown, drift.most_unusual(reference, served, 10), strict=True):
        np.testing.assert_array_equal(axis.images[0].get_array(), images[index])
        assert axis.get_title().split()[0] == classes[int(served[drift.PREDICTED_CLASS][index])].split()[0]
        assert axis.texts[0].get_text().startswith(feature.replace("_", " "))
        assert axis.texts[0].get_text().endswith(f"#{index}")


@pytest.mark.parametrize("epochs", [1, 2, 24, 150])
@pytest.mark.parametrize("held_out", [True, False], ids=["with validation", "without"])
def test_training_curves_show_each_column_of_the_history(epochs: int, held_out: bool, texts_of: Any) -> None:
    names = ["loss", "accuracy", *(["val_loss", "val_accuracy"] if held_out else [])]
    history = [dict.fromkeys(names, 0.9 / epoch**0.7) for epoch in range(1, epochs + 1)]

    figure = plots.training_curves(history)

    assert_legible(figure, texts_of(figure))
    for axis, name in zip(figure.axes, ("loss", "accuracy"), strict=True):
        curves = [list(line.get_ydata()) for line in axis.lines]
        assert curves == [[epoch[metric] for epoch in history] for metric in (name, f"val_{name}") if metric in names]
        assert all(tick == int(tick) for tick in axis.get_xticks())


def test_a_single_epoch_is_drawn_as_a_marker() -> None:
    (line,) = plots.training_curves([{"loss": 0.5, "accuracy": 0.9}]).axes[0].lines

    assert line.get_marker() == "."


def test_a_plot_does_not_depend_on_the_users_matplotlibrc(tmp_path: Path) -> None:
    def plot(name: str) -> bytes:
        style.save(plots.calibration([(0.5, 0.4, 10)]), tmp_path / name)
        return (tmp_path / name).read_bytes()

    plain = plot("plain.png")
    unusual = {
        "font.family": "monospace",
        "xtick.labelsize": 20,
        "axes.facecolor": "red",
        "savefig.dpi": 30,
        "grid.linewidth": 5,
    }

    with matplotlib.rc_context(unusual):
        assert plot("unusual.png") == plain


def test_a_plot_does_not_name_the_version_of_matplotlib(tmp_path: Path) -> None:
    style.save(plots.calibration([(0.5, 0.4, 10)]), tmp_path / "figure.png")

    assert Image.open(io.BytesIO((tmp_path / "figure.png").read_bytes())).info.keys() == {"dpi"}


NAMES = ("US$ and A$", "$x^2$", r"a\$b\c", "a|b, \"c\" 'd'", "<b>&amp;", "{0} %s", "long" * 60, "日本語 😀", "no", "yes")


@pytest.mark.filterwarnings("ignore:Glyph")  # the font has no Chinese characters; a box is drawn for each
def test_every_class_name_is_drawn_as_it_is_written(subset: dict[str, Split], tmp_path: Path) -> None:
    test, wrong = subset["test"], np.roll(np.eye(10)[subset["test"].labels], 1, axis=1)
    counts = metrics.confusion(test.labels, wrong)
    features = {name: np.full(9, 0.5) for name in (drift.INK_FRACTION, drift.MEAN_INTENSITY, drift.CONFIDENCE)}
    features[drift.PREDICTED_CLASS] = np.arange(9) % 10
    figures = [
        plots.confusion_matrix(counts, NAMES),
        plots.worst_mistakes(test, wrong, NAMES, 12),
        plots.class_distribution({"train": counts.sum(axis=1)}, NAMES),
        drift_plots.gallery(features, features, test.images[:9], NAMES, 9),
    ]

    for figure in figures:
        style.save(figure, tmp_path / "figure.png")

    shown = [Text(text=style.label(name))._preprocess_math(style.label(name)) for name in NAMES]
    assert shown == [(name if len(name) <= 24 else f"{name[:23]}…", False) for name in NAMES]
    drawn = {text.get_text() for text in figures[0].axes[0].get_yticklabels()}
    assert drawn == {style.label(name) for name in NAMES}
