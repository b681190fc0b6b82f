"""Compare how much labels teach: selected as `make select` does, by margin alone, and at random: `python -m bench.selection`.

A model is trained on MNIST. Then the world turns all digits by 30 degrees and thickens their strokes. Some of the new images
are labelled, added to the training images, each counted ten times, and the model is trained again. Its accuracy is measured on
other new images. The informative images are chosen in turns, as in retraining cycles: the model that was trained on those so
far chooses the next. Five seeds, each with other training, served and new images. Needs data/raw with MNIST.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, stats

from bench import report
from pipeline.core import params as parameters
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.data.datasets import Pixels, Split
from pipeline.monitoring import selection
from pipeline.training import tensorflow_setup

SEEDS = range(5)
BASE, SERVED, TESTED = 48_000, 8_000, 5_000  # images
EPOCHS, WEIGHT = 10, 10
DEGREES, STROKES = 30, (2, 2)
RANDOM, INFORMATIVE = (50, 100, 200, 400, 800), (50, 100, 200, 400)
MARGIN = 200
CHANGED = f"turned by {DEGREES} degrees, with thicker strokes"
TITLE = "Which images to label"

Result = dict[str, float]  # the accuracy on new images, by what was labelled


def changed(images: Pixels) -> Pixels:
    """The images as the changed world has them."""
    turned = (ndimage.rotate(image, DEGREES, reshape=False, order=1) for image in images)
    return np.stack([ndimage.grey_dilation(image, STROKES) for image in turned]).astype(np.uint8)


def probabilities(model: Any, images: Pixels) -> npt.NDArray[np.float32]:
    return np.asarray(model.predict(images, batch_size=2000, verbose=0))


def fitted(base: Split, added: Split, seed: int, params: Params) -> Any:
    """A model that was fitted on `base` and on `added`, whose images count ten times."""
    with tensorflow_setup.lean_tensorflow(params.train.threads):
        from pipeline.training import fit, network

    data = Split(*(np.concatenate(pair) for pair in zip(base, added, strict=True)))
    rows = np.concatenate([np.arange(len(base.labels)), np.repeat(np.arange(len(base.labels), len(data.labels)), WEIGHT)])
    model = network.build(params.model, (28, 28), len(params.fetch.classes), seed)
    train = params.train.model_copy(update={"epochs": EPOCHS, "seed": seed})
    fit.fit(model, data, (rows, np.empty(0, np.intp)), train, lambda *_: None)
    return model


def measure(seed: int, params: Params, paths: Paths) -> Result:
    """The accuracy of each retrained model for a seed."""
    train, test = datasets.load(paths, "train"), datasets.load(paths, "test")
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(train.labels))[: BASE + SERVED]
    base = Split(train.images[rows[:BASE]], train.labels[rows[:BASE]])
    served = Split(changed(train.images[rows[BASE:]]), train.labels[rows[BASE:]])
    tested = rng.permutation(len(test.labels))[:TESTED]
    new = Split(changed(test.images[tested]), test.labels[tested])

    def accuracy(model: Any, split: Split) -> float:
        return float((probabilities(model, split.images).argmax(axis=1) == split.labels).mean())

    champion = fitted(base, Split(served.images[:0], served.labels[:0]), seed, params)
    result = {
        "before": accuracy(champion, Split(test.images[tested], test.labels[tested])),
        "nothing": accuracy(champion, new),
    }
    order, predicted = rng.permutation(SERVED), probabilities(champion, served.images)
    chosen = {f"random {count}": order[:count] for count in RANDOM}
    chosen[f"margin {MARGIN}"] = np.argsort(selection.margins(predicted), kind="stable")[:MARGIN]
    for name, picked in chosen.items():
        result[name] = accuracy(fitted(base, Split(served.images[picked], served.labels[picked]), seed, params), new)
    picked, model, radius = np.empty(0, np.intp), champion, params.validate_.near_duplicate_distance
    for count in INFORMATIVE:
        predicted = probabilities(model, served.images)
        found = selection.choose(served.images, predicted, served.images[picked], 0, count - len(picked), radius)
        picked = np.concatenate([picked, found.informative])
        model = fitted(base, Split(served.images[picked], served.labels[picked]), seed, params)
        result[f"informative {count}"] = accuracy(model, new)
    return result


def needed(accuracy: float, result: Result) -> float:
    """How many random labels give an accuracy, by interpolation on the logarithm of their number; the most that were tried, if
    more are needed."""
    reached = np.maximum.accumulate([result[f"random {count}"] for count in RANDOM])
    return float(np.exp(np.interp(accuracy, reached, np.log(RANDOM))))


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean and its 95 % interval (Student's t)."""
    mean, half = statistics.fmean(values), 0.0
    if len(values) > 1:
        half = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return mean, mean - half, mean + half


def _percent(values: Sequence[float]) -> str:
    return "{:.1%} [{:.1%}, {:.1%}]".format(*interval(values))


def _points(values: Sequence[float]) -> str:
    return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * value for value in interval(values)))


def section(results: Sequence[Result]) -> str:
    """The section of bench/results.md."""

    def values(name: str) -> list[float]:
        return [result[name] for result in results]

    def less(one: str, other: str) -> list[float]:
        return [result[one] - result[other] for result in results]

    rows = []
    for count in INFORMATIVE:
        own, double = f"informative {count}", f"random {2 * count}"
        ratios = [count / needed(result[own], result) for result in results]
        share = "{:.2f} [{:.2f}, {:.2f}]".format(*interval(ratios))
        if all(result[own] > result[f"random {RANDOM[-1]}"] for result in results):
            share = f"less than {count / RANDOM[-1]:.2f}"
        rows.append(
            [f"{count}", _percent(values(f"random {count}")), _percent(values(own)), _points(less(own, double)), share]
        )
    header = [
        "labels",
        "random",
        "informative",
        "informative minus twice as many random, points",
        "share of the labels needed",
    ]
    lines = [
        report.machine("python -m bench.selection", "keras", "tensorflow", "scipy"),
        "",
        f"MNIST, then all digits {CHANGED}. {len(results)} seeds, mean and 95 % interval. {BASE:,} images to train on, "
        f"{SERVED:,} served to select from, {TESTED:,} other new ones to measure on; {EPOCHS} epochs, each label counts "
        f"{WEIGHT} times.",
        "The informative images are chosen in turns: the model that was trained on those so far chooses the next.",
        "",
        f"Before the change the model is right on {_percent(values('before'))}, after it on {_percent(values('nothing'))}.",
        "",
        report.table(header, rows),
        "",
        "The last column: the informative labels, divided by the random ones that give the same accuracy (interpolated; "
        f"at least {RANDOM[0]} and at most {RANDOM[-1]}). The {MARGIN} smallest margins at once, without clusters: "
        f"{_percent(values(f'margin {MARGIN}'))}.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.selection", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--keep", type=Path, help="a JSON file with the results of other seeds, to which to add these")
    options = parser.parse_args()
    paths = Paths()
    params = parameters.load(paths.params)
    known = json.loads(options.keep.read_text()) if options.keep and options.keep.exists() else {}
    for seed in options.seeds:
        known[str(seed)] = measure(seed, params, paths)
        print(seed, known[str(seed)], flush=True)
        if options.keep:
            options.keep.write_text(json.dumps(known))
    report.put(TITLE, section([known[seed] for seed in sorted(known)]))


if __name__ == "__main__":
    main()
