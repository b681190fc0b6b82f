"""The explorer's page in Chromium, compared with ONNX Runtime, TensorFlow and metrics.json."""

import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from pipeline.core import files, params
from pipeline.data.datasets import Pixels, Split
from pipeline.explorer.network import ACTIVATIONS, forward, round_trip
from pipeline.inference.onnx_model import OnnxModel
from pipeline.training import network, snapshots
from tests.browser import chromium, console_errors, requested_urls
from tests.chaos.conftest import LONG
from tests.conftest import Repository, build, small_repository


@pytest.fixture(scope="module")
def explored(subset: dict[str, Split], tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A tree with a network trained well enough to recognize handwriting."""
    repository = small_repository(tmp_path_factory.mktemp("explored"), subset, {"train.epochs": 25})
    build(repository, registered=False)
    return repository


@pytest.fixture(scope="module")
def opened(explored: Repository) -> Iterator[Any]:
    with chromium() as browser:
        browser.get(explored.paths.page.absolute().as_uri())
        yield browser


@pytest.fixture
def page(opened: Any, explored: Repository) -> Iterator[Any]:
    """The freshly opened page; fails if the browser logs a warning or an error."""
    opened.get(explored.paths.page.absolute().as_uri())
    console_errors(opened)  # discard earlier ones
    yield opened
    assert console_errors(opened) == []


def predict(page: Any, images: Pixels) -> Any:
    script = "return arguments[0].map((pixels) => explorer.predict(pixels))"
    return np.array(page.execute_script(script, images.reshape(len(images), -1).tolist()))


def show_moment(page: Any, moment: int) -> None:
    slider = page.find_element(By.ID, "moment")
    page.execute_script("arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))", slider, moment)


def text(page: Any, identifier: str) -> str:
    return str(page.find_element(By.ID, identifier).text)


def prediction(page: Any) -> str:
    return str(page.find_element(By.CSS_SELECTOR, "#answer .first .name").text)


def test_the_page_predicts_the_same_as_onnx_runtime(page: Any, explored: Repository, subset: dict[str, Split]) -> None:
    images = subset["test"].images[:100]

    probabilities = predict(page, images)

    np.testing.assert_allclose(probabilities, OnnxModel(explored.paths.onnx).predict(images), rtol=0, atol=1e-5)


def test_a_gradient_step_equals_that_of_tensorflow(page: Any, explored: Repository, subset: dict[str, Split]) -> None:
    image, truth, rate = subset["test"].images[:1], 3, 0.5  # the image is not a 3, so the gradient is large
    model = network.load(explored.paths.keras)
    with tf.GradientTape() as tape:
        loss = keras.losses.sparse_categorical_crossentropy(np.array([truth]), model(image))
    gradients = tape.gradient(loss, model.trainable_variables)

    script = "return explorer.step(...arguments).flat()"
    stepped_weights = page.execute_script(script, image.ravel().tolist(), truth, rate)

    for stepped, weights, gradient in zip(stepped_weights, model.get_weights(), gradients, strict=True):
        moved = rate * np.asarray(gradient)
        np.testing.assert_allclose(stepped, (weights - moved).ravel(), rtol=0, atol=1e-4)
        assert np.abs(moved).max() > 1e-2


def test_a_step_changes_the_whole_page_and_undo_reverts_it(page: Any) -> None:
    before = page.execute_script("return explorer.predict(explorer.state.pixels)")
    page.find_element(By.CSS_SELECTOR, "#truth button:last-child").click()
    undo = page.find_element(By.ID, "undo")
    assert not undo.is_enabled()

    page.find_element(By.ID, "take").click()

    after = page.execute_script("return explorer.predict(explorer.state.pixels)")
    assert after[9] > before[9]
    assert "+ 1 step" in text(page, "now-text")
    page.execute_script("return new Promise((done) => setTimeout(done, 100))")
    undo.click()
    assert page.execute_script("return explorer.predict(explorer.state.pixels)") == before


def test_the_slider_goes_from_random_weights_to_the_accuracy_in_metrics_json(page: Any, explored: Repository) -> None:
    moments = page.execute_script("return explorer.content.snapshots.map(({epoch, accuracy}) => [epoch, accuracy])")
    metrics, (_, start_accuracy) = files.read_json(explored.paths.metrics), moments[0]

    assert len(moments) == 10
    assert 0.02 < start_accuracy < 0.25  # near 0.1: a random network prefers some classes
    assert moments[-1] == [explored.params.train.epochs, metrics["accuracy"]]
    assert f"{metrics['accuracy']:.2%}"[:-1] in text(page, "moment-text")
    show_moment(page, 0)
    assert f"{start_accuracy:.2%}"[:-1] in text(page, "moment-text")
    assert "random weights" in text(page, "now-text")


def test_each_moment_uses_the_weights_of_its_snapshot(page: Any, explored: Repository, subset: dict[str, Split]) -> None:
    images = subset["test"].images[:20]
    for moment, taken in enumerate(snapshots.load(explored.paths.snapshots)):
        show_moment(page, moment)
        expected = forward(round_trip(taken.weights), "relu", images)
        np.testing.assert_allclose(predict(page, images), expected, rtol=0, atol=1e-5)


def circle(x: float, y: float, across: float, down: float) -> list[tuple[float, float]]:
    angles = np.linspace(-math.pi / 2, 1.5 * math.pi, 25)
    return [(x + across * math.cos(angle), y + down * math.sin(angle)) for angle in angles]


STROKES = {
    "0": circle(140, 140, 55, 85),
    "1": [(150, 50), (146, 110), (142, 170), (138, 230)],
    "7": [(80, 60), (140, 60), (200, 60), (175, 120), (150, 180), (130, 235)],
}


def draw(page: Any, stroke: list[tuple[float, float]]) -> None:
    """Draw a stroke with the mouse, in pixels from the upper left corner of the pad."""
    pad = page.find_element(By.ID, "pad")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", pad)
    mouse = ActionChains(page, duration=5)
    for index, (x, y) in enumerate(stroke):
        mouse.move_to_element_with_offset(pad, round(x - 140), round(y - 140))
        if index == 0:
            mouse.click_and_hold()
    mouse.release().perform()


@pytest.mark.parametrize("digit", STROKES)
def test_a_digit_drawn_with_the_mouse_is_recognized(page: Any, digit: str) -> None:
    page.find_element(By.ID, "clear").click()
    assert "Nothing drawn" in text(page, "now-text")

    draw(page, STROKES[digit])

    assert prediction(page) == digit
    ink = np.reshape(page.execute_script("return Array.from(explorer.state.pixels)"), (28, 28))
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 in range(18, 23)  # a box of 20
    centre = [float((ink.sum(axis=1 - axis) * np.arange(28)).sum() / ink.sum()) for axis in (0, 1)]
    assert centre == pytest.approx([14, 14], abs=0.75)


def test_drawing_works_by_touch(page: Any) -> None:
    page.find_element(By.ID, "clear").click()
    pad = page.find_element(By.ID, "pad")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", pad)
    box = page.execute_script("const b = arguments[0].getBoundingClientRect(); return [b.left, b.top]", pad)

    for index, (x, y) in enumerate(STROKES["1"]):
        kind, point = "touchMove" if index else "touchStart", {"x": box[0] + x, "y": box[1] + y}
        page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
    page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    assert prediction(page) == "1"


def test_drawing_and_selecting_work_with_the_keyboard(page: Any) -> None:
    page.find_element(By.ID, "clear").click()
    pad = page.find_element(By.ID, "pad")

    pad.send_keys(Keys.ARROW_UP * 8, Keys.SPACE, Keys.ARROW_DOWN * 16, Keys.SPACE)

    assert prediction(page) == "1"
    pad.send_keys(Keys.DELETE)
    assert "Nothing drawn" in text(page, "now-text")
    diagram = page.find_element(By.ID, "diagram")
    diagram.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    assert "Neuron 17" in text(page, "inspector")
    diagram.send_keys(Keys.PAGE_DOWN)
    assert "Output 9" in text(page, "inspector")
    diagram.send_keys(Keys.PAGE_UP, Keys.PAGE_UP)
    assert "Pixel in row 1, column 10" in text(page, "inspector")
    page.find_element(By.ID, "flat").send_keys(Keys.ARROW_DOWN)
    assert "Row 16 of 28 becomes inputs 421 to 448 of 784" in text(page, "flat-row")


def test_the_inspector_explains_the_selected_unit(page: Any, explored: Repository) -> None:
    weights = network.load(explored.paths.keras).get_weights()
    pixels = np.array(page.execute_script("return Array.from(explorer.state.pixels)")) / 255
    page.execute_script("select({kind: 'unit', layer: 0, unit: 7})")
    total = weights[0][:, 7] @ pixels
    shown = text(page, "inspector").replace("−", "-")
    assert f"Sum of the products: {total:+.3f}. With the bias {weights[1][7]:+.3f}: {total + weights[1][7]:+.3f}" in shown

    page.execute_script("select({kind: 'unit', layer: 1, unit: 4})")
    hidden = np.maximum(pixels @ weights[0] + weights[1], 0)
    sent = hidden * weights[2][:, 4]
    shown = text(page, "inspector").replace("−", "-")
    assert f"Neurons with a positive contribution: {(sent > 0).sum()}" in shown
    assert f"neuron {sent.argmax()}: {sent.max():+.3f}" in shown
    assert f"neuron {sent.argmin()}: {sent.min():+.3f}" in shown


def test_the_inspector_counts_the_parameters(page: Any) -> None:
    page.find_element(By.CSS_SELECTOR, "#layers button").click()

    shown = text(page, "inspector")

    for sentence in ("784 × 256 + 256 200,960", "256 × 10 + 10 2,570", "total 203,530"):
        assert sentence in shown


def test_the_page_counts_the_data(page: Any, subset: dict[str, Split]) -> None:
    counts = np.bincount(subset["train"].labels)

    assert f"{len(subset['train'].labels):,} training images and" in text(page, "data-words")
    assert f"{counts.min()} to {counts.max()} training images of each digit" in text(page, "data-words")
    assert f"{counts[3]} + {np.bincount(subset['test'].labels)[3]}" in text(page, "counts")


def test_the_page_makes_no_network_request(explored: Repository) -> None:
    with chromium() as browser:
        requested_urls(browser)
        browser.get(explored.paths.page.absolute().as_uri())
        draw(browser, STROKES["1"])
        show_moment(browser, 3)

        urls = requested_urls(browser)

        assert explored.paths.page.absolute().as_uri() in urls
        assert all(url.startswith(("file://", "data:")) for url in urls)
        assert browser.execute_script("return fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')") == "refused"
        assert console_errors(browser)  # the content security policy refused it


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_no_width_needs_horizontal_scrolling(page: Any, width: int) -> None:
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 800, "deviceScaleFactor": 2, "mobile": width < 500}
    )
    try:
        page.refresh()
        page.execute_script("select({kind: 'unit', layer: 1, unit: 4})")
        page.execute_script("return new Promise((done) => setTimeout(done, 200))")
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_page_is_small_enough_to_send(explored: Repository) -> None:
    assert explored.paths.page.stat().st_size <= 4_000_000


OTHER = {
    "model.hidden_units": [12, 7],
    "model.activation": "tanh",
    "fetch.classes": ["cat", "</script>", "<b>x"],
    "validate.class_share": [0, 1],
}


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Other data and another network: images of 20x16 in three classes, two hidden layers."""
    random = np.random.default_rng(0)
    data = {}
    for split, count in (("train", 300), ("test", 90)):
        labels = (np.arange(count) % 3).astype(np.uint8)
        images = random.integers(0, 60, (count, 20, 16), dtype=np.uint8)
        images[np.arange(count), 5 * labels, :] = 255
        data[split] = Split(images, labels)
    repository = small_repository(tmp_path_factory.mktemp("other"), data, OTHER)
    build(repository, registered=False)
    return repository


@pytest.mark.skipif(not LONG, reason="trains another network: make chaos")
def test_the_page_works_for_other_data_and_another_network(other: Repository) -> None:
    images = np.load(other.paths.raw / "test_images.npy")[:30]
    with chromium() as browser:
        browser.get(other.paths.page.absolute().as_uri())
        np.testing.assert_allclose(predict(browser, images), OnnxModel(other.paths.onnx).predict(images), rtol=0, atol=1e-5)
        for sentence in ("320 × 12 + 12 3,852", "12 × 7 + 7 91", "7 × 3 + 3 24", "total 3,967"):
            assert sentence in text(browser, "inspector")
        assert [item.text for item in browser.find_elements(By.CSS_SELECTOR, "#answer .name")] == OTHER["fetch.classes"]
        assert "of each class" in text(browser, "data-words")
        browser.execute_script("select({kind: 'unit', layer: 1, unit: 4})")
        assert "Neuron 4 of layer 2" in text(browser, "inspector")
        draw(browser, STROKES["1"])
        assert max(browser.execute_script("return Array.from(explorer.state.pixels)")) == 255
        assert console_errors(browser) == []


NAMES = list(ACTIVATIONS)


@pytest.mark.parametrize("activation", NAMES)
def test_every_activation_and_its_slope_equal_keras(page: Any, activation: str) -> None:
    points = tf.constant(np.linspace(-6, 6, 25))
    points = tf.boolean_mask(points, points != 0)  # some activations have no unique slope at 0
    with tf.GradientTape() as tape:
        tape.watch(points)
        values = keras.activations.get(activation)(points)
    slopes = tape.gradient(values, points)
    script = "const a = ACTIVATIONS[arguments[0]]; return arguments[1].map((z) => [a.value(z), a.slope(z)])"

    computed = np.array(page.execute_script(script, activation, np.asarray(points).tolist()))

    np.testing.assert_allclose(computed[:, 0], values, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(computed[:, 1], slopes, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(ACTIVATIONS[activation](np.asarray(points)), values, rtol=1e-6, atol=1e-9)


def test_the_page_supports_every_activation_of_params_yaml() -> None:
    offered = params.ModelParams.model_json_schema()["properties"]["activation"]["enum"]

    assert sorted(ACTIVATIONS) == sorted(offered)
