"""The page about the validation, in a real browser: it needs nothing from elsewhere and fits every screen."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.by import By

from pipeline.data.datasets import Split
from pipeline.validation import report_page
from pipeline.validation.outcomes import Measured, Outcome
from tests.browser import chromium, console_errors, requested_urls

CLASSES = ["<b>cat</b>", 'dog & "dog\'s"', "<script>document.title = 'run'</script>", "w" * 60]
MANIFEST = {"dataset": "animals <3", "fingerprint": "f" * 64}


def outcomes() -> list[Outcome]:
    return [
        Outcome("train", "mean intensity", "25 to 45", "33", True, "", Measured(25, 45, 33, 33)),
        Outcome("train", f"share of class {CLASSES[2]}", "0.1 to 0.2", "0.4", False, "a -> b", Measured(0.1, 0.2, 0.4, 0.4)),
        Outcome("extra-<i>", "label issues", "none", "2 of 40", False, "", Measured(0, 0, 0.05, 0.05), ((3, "#3"), (5, "#5"))),
    ]


@pytest.fixture(scope="module")
def data() -> dict[str, Split]:
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 30), np.uint8)
    split = Split(images, (np.arange(40) % 4).astype(np.uint8))
    return {"train": split, "extra-<i>": split}


@pytest.fixture(scope="module")
def page(data: dict[str, Split], tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(report_page.render(MANIFEST, outcomes(), data, CLASSES), encoding="utf-8")
    return file.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


def test_the_page_needs_nothing_from_elsewhere_and_runs_no_name(page: str, browser: Any) -> None:
    browser.get(page)

    assert browser.title == "Data validation: animals <3"
    assert {url.partition(":")[0] for url in requested_urls(browser)} <= {"file", "data"}
    assert console_errors(browser) == []
    text = browser.find_element(By.TAG_NAME, "body").text
    assert "2 of 3 expectations are broken: training does not start." in text
    assert all(name in text for name in CLASSES)
    assert "extra <i>" in text
    drawn = "return [...document.images].map((image) => [image.naturalWidth, image.naturalHeight])"
    assert browser.execute_script(drawn) == [[30, 28]] * (4 + 4 + 2)


def test_a_value_outside_its_bounds_is_drawn_outside(page: str, browser: Any) -> None:
    browser.get(page)

    inside, outside, share = (
        [(box.rect["x"], box.rect["x"] + box.rect["width"]) for box in track.find_elements(By.TAG_NAME, "span")]
        for track in browser.find_elements(By.CSS_SELECTOR, ".track")
    )

    assert inside[0][0] < inside[1][0] < inside[1][1] < inside[0][1]
    assert outside[1][0] > outside[0][1]
    assert share[1][0] > share[0][1]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_fits_the_screen_and_text_stands_out(theme: str, width: int, page: str, browser: Any) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(page)

    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    ground = luminance(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert (ground > 0.5) == (theme == "light")
    for selector in ("body", ".muted", ".broken", ".met", "th", "summary"):
        colour = luminance(browser.execute_script(f"return getComputedStyle(document.querySelector('{selector}')).color"))
        assert (max(colour, ground) + 0.05) / (min(colour, ground) + 0.05) >= 4.5, selector  # WCAG 2.2, level AA


def luminance(colour: str) -> float:
    """The relative luminance of `rgb(r, g, b)` by WCAG 2.2."""
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_same_outcomes_give_the_same_bytes(page: str, data: dict[str, Split]) -> None:
    assert Path(page.removeprefix("file://")).read_text(encoding="utf-8") == report_page.render(
        MANIFEST, outcomes(), data, CLASSES
    )


@pytest.mark.parametrize(
    ("shape", "shown"), [((1, 1), (1, 1)), ((28, 28), (28, 28)), ((64, 64), (64, 64)), ((200, 90), (50, 23))]
)
def test_images_are_valid_png_files_and_large_ones_are_reduced(shape: tuple[int, int], shown: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    with Image.open(io.BytesIO(report_page.png(pixels))) as image:
        decoded = np.asarray(image)

    step = shape[0] // shown[0]
    np.testing.assert_array_equal(decoded, pixels[::step, ::step])
    assert decoded.shape == shown


def test_good_data_is_said_to_be_good(data: dict[str, Split]) -> None:
    good = report_page.render(MANIFEST, outcomes()[:1], data, CLASSES)

    assert '<p class="verdict met">' in good
    assert "broken" not in good.partition("</style>")[2]
