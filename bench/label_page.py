"""Label 1,000 images by keyboard in Chromium and time each answer: `python -m bench.label_page`.

A server in a process of its own keeps the answers, as `make label` does. The time of an answer runs from the key to the next
image on the screen; the answer is on the disk then. Needs Chromium with its driver.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import requests

from bench import report
from pipeline.core.paths import Paths
from pipeline.monitoring import selected
from pipeline.monitoring.selected import Selection
from tests.browser import chromium
from tests.imports import ROOT
from tests.web import closed

IMAGES, SIDE = 1000, 28
CLASSES = tuple("0123456789")
TITLE = "Labelling 1,000 images"

ANSWER_ALL = """
const done = arguments[0], times = [], image = document.getElementById("image");
const frame = () => new Promise(requestAnimationFrame);
(async () => {
  for (let number = 0; number < page.items.length; number += 1) {
    const start = performance.now();
    document.dispatchEvent(new KeyboardEvent("keydown", { key: String(number % 10) }));
    await page.busy;
    if (page.items[page.at]) await image.decode();
    await frame();
    times.push(performance.now() - start);
  }
  done(times);
})();
"""


def measure(folder: Path) -> tuple[float, list[float]]:
    """Seconds until the page shows the first image, and the milliseconds of each answer."""
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, SIDE, SIDE)).astype(np.uint8)
    probabilities = np.full((IMAGES, len(CLASSES)), 0.1, np.float32)
    parts: tuple[selected.Part, ...] = ("random",) * IMAGES
    selected.write(Selection(images, probabilities, selected.identifiers(images), parts, CLASSES, {}), Paths(folder))
    (folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    address = closed()
    command = [sys.executable, "-m", "pipeline.label", "--port", address.rstrip("/").rpartition(":")[2]]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL) as server, chromium() as browser:
        try:
            browser.set_script_timeout(600)
            _wait(address)
            start = time.perf_counter()
            browser.get(address)
            browser.execute_async_script("const done = arguments[0]; page.busy.then(() => image.decode()).then(done)")
            seconds = time.perf_counter() - start
            times: list[float] = browser.execute_async_script(ANSWER_ALL)
        finally:
            server.terminate()
    kept = len((folder / "data" / "selected" / selected.ANSWERS).read_bytes().splitlines())
    if kept != IMAGES:
        raise RuntimeError(f"expected {IMAGES:,} answers on the disk, found {kept:,}")
    return seconds, times


def _wait(address: str) -> None:
    for _ in range(600):
        try:
            requests.get(address, timeout=5)
        except requests.ConnectionError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(f"expected an answer of {address} within a minute, found none")


def main() -> None:
    with TemporaryDirectory() as folder:
        seconds, times = measure(Path(folder))
    parts = {"first 100": times[:100], "middle 100": times[450:550], "last 100": times[-100:], "all": times}
    rows = [[name, *(f"{value:.0f}" for value in (*np.percentile(each, [50, 99]), max(each)))] for name, each in parts.items()]
    text = [
        report.machine("python -m bench.label_page", "starlette", "uvicorn"),
        "",
        f"The page shows the first of {IMAGES:,} images after {seconds:.1f} s. Milliseconds from a key to the next image:",
        "",
        report.table(["images", "median", "99 %", "longest"], rows),
    ]
    report.put(TITLE, "\n".join(text))


if __name__ == "__main__":
    main()
