"""Latency from a pen stroke to the probabilities on the explorer page, in Chromium with real pointer events.

`python -m bench.pen` draws circles with the mouse. Listeners before and after those of the page time the update of the bars.
The browser delivers moves once per frame, so the times from the move itself include that wait.
"""

import math
import shutil
import statistics
import sys
from typing import Any

from bench import report
from pipeline.core.paths import Paths
from tests.browser import chromium

POINTS = 600
LIMIT = 16.0  # milliseconds: one frame at 60 Hz

LISTEN = """
window.answered = [];
window.since = [];
window.drawn = [];
let start;
window.addEventListener("pointermove", () => (start = performance.now()), { capture: true });
document.getElementById("pad").addEventListener("pointermove", (event) => {
  answered.push(performance.now() - start);
  since.push(performance.now() - event.timeStamp);
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => drawn.push(performance.now() - event.timeStamp);
  requestAnimationFrame(() => port2.postMessage(null));
});
const box = document.getElementById("pad").getBoundingClientRect();
return [box.left + box.width / 2, box.top + box.height / 2];
"""


def strokes(browser: Any) -> list[list[float]]:
    """Milliseconds of `POINTS` moves: from delivery to probabilities, from the event to probabilities, and to the frame."""
    browser.execute_script(
        "explorer.state.selected = {kind: 'unit', layer: 0, unit: 0}; document.getElementById('clear').click()"
    )
    x, y = browser.execute_script(LISTEN)

    def mouse(kind: str, angle: float, **more: Any) -> None:
        at = {"x": x + 90 * math.cos(angle), "y": y + 110 * math.sin(angle)}
        browser.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": kind, "button": "left", "clickCount": 1, **at, **more})

    for stroke in range(POINTS // 60):
        mouse("mousePressed", stroke)
        for point in range(60):
            mouse("mouseMoved", stroke + point / 10, buttons=1)
        mouse("mouseReleased", stroke + 6)
    return browser.execute_script("return [answered, since, drawn]")


def row(name: str, times: list[float], bound: bool = False) -> list[str]:
    last = statistics.quantiles(times, n=100)[98]
    mark = f"{LIMIT:.0f}: {'reached' if last < LIMIT else 'not reached'}" if bound else ""
    return [name, str(len(times)), f"{statistics.median(times):.1f}", f"{last:.1f}", mark]


def main() -> int:
    if not shutil.which("chromedriver"):
        print("bench     found no Chromium with its driver: the explorer page is not measured")
        return 0
    with chromium() as browser:
        browser.get(Paths().page.absolute().as_uri())
        version = browser.capabilities["browserVersion"]
        answered, since, drawn = strokes(browser)
    header = ["from - to", "moves", "median, ms", "99th percentile, ms", "at most"]
    rows = [
        row("delivery of the move - probabilities", answered, bound=True),
        row("move - probabilities", since, bound=True),
        row("move - frame with the whole network", drawn),
    ]
    described = report.machine("python -m bench.pen").replace(
        ", Python", f", Chromium {version} without a graphics card, Python"
    )
    report.put("From pen to probabilities", f"{described}\n\n{report.table(header, rows)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
