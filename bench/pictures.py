"""Accuracy of `predict` on test digits drawn on many grounds: shadows, ruled paper, blackboards, scans.

`python -m bench.pictures` draws 100 test images on each ground of bench/grounds.py, preprocesses and predicts them, and writes
a section of bench/results.md. It needs `make repro`.
"""

import sys
import time

import numpy as np
from PIL import Image

from bench import report
from bench.grounds import GROUNDS, picture
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.inference.onnx_model import OnnxModel
from pipeline.serving import preprocessing

COUNT, LEAST = 100, 95


def main() -> int:
    paths = Paths()
    model, test = OnnxModel(paths.onnx), datasets.load(paths, "test")
    chosen = np.random.default_rng(0).permutation(len(test.labels))[:COUNT]
    digits, labels = test.images[chosen], test.labels[chosen]
    direct = int((model.predict(digits).argmax(axis=1) == labels).sum())
    rows, sheet, met = [], [], True
    for name, ground in GROUNDS.items():
        rng, start = np.random.default_rng(1), time.perf_counter()
        greys = [np.asarray(picture(digit, ground, rng).convert("L")) for digit in digits]
        images = np.concatenate([preprocessing.conform(grey, model.image_shape).pixels for grey in greys])
        seconds = (time.perf_counter() - start) / COUNT
        right = int((model.predict(images).argmax(axis=1) == labels).sum())
        met &= right >= LEAST
        rows.append([name, str(right), f"{seconds * 1000:.0f}"])
        sheet.append(_strip(greys[:8], images[:8]))
    Image.fromarray(np.vstack(sheet)).save("bench/pictures.png")
    body = f"Of {COUNT} test images, {direct} are predicted correctly. On each ground, at least {LEAST}.\n\n"
    report.put("Pictures", body + report.table(["ground", "right", "milliseconds a picture"], rows))
    return 0 if met else 1


def _strip(greys: list[np.ndarray], images: np.ndarray) -> np.ndarray:
    """Each picture with what preprocessing made of it below, for eyes."""
    above = [np.asarray(Image.fromarray(grey).resize((84, 84))) for grey in greys]
    below = [np.asarray(Image.fromarray(image).resize((84, 84), Image.Resampling.NEAREST)) for image in images]
    return np.vstack([np.hstack(above), np.hstack(below)])


if __name__ == "__main__":
    sys.exit(main())
