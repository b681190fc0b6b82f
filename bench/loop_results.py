"""The table and the picture of `make simulate`, and the limit: retraining on everything that was served, with all labels."""

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from bench import report
from pipeline.core import params as parameters
from pipeline.core.paths import Paths
from pipeline.data.datasets import Pixels, Split
from pipeline.training import tensorflow_setup, weights
from tests.worlds import changed

TURNS, MIX, WRONG = 5, 12, 18  # weeks
DEGREES = 30.0
FREQUENT = 7  # the class that becomes frequent
LIMIT_WEIGHT = 3  # how often each served image counts when all are labelled, with the strongest augmentation of `auto`
PICTURE = Path(__file__).parent.parent / "docs" / "loop.png"
TITLE = "Half a year of a model in use"


class Week(NamedTuple):
    """What happened in a week. Accuracies are of the images that were served in it, except `base`."""

    number: int
    served: float  # of the model that served
    first: float  # of the first champion
    previous: float  # of the champion before the one that served
    base: float  # of the model that served, on the test split
    version: str
    alarm: tuple[str, ...]  # the checks that drift
    labels: int
    promoted: bool
    event: str


class Served(NamedTuple):
    """A week, and the images that were served in it."""

    week: Week
    split: Split


def world(images: Pixels, week: int) -> Pixels:
    """The images as they look in a week."""
    turned = min(1.0, max(0.0, (week - TURNS + 1) / 3))
    return changed(images, DEGREES * turned, turned)


def limit(weeks: list[Served], base: Split, test: Split) -> list[float]:
    """The accuracy in each week if, whenever the loop retrains, all images served so far have labels.

    It is that on the test split as it would look in that week: the images of later weeks repeat those of earlier ones.
    """
    params = parameters.load(Paths(Path(__file__).parent.parent).params)
    with tensorflow_setup.lean_tensorflow(params.train.threads):
        from pipeline.training import fit, network

    def fitted(parts: list[Split]) -> Any:
        data = Split(*(np.concatenate(each) for each in zip(base, *parts, strict=True)))
        added = np.arange(len(base.labels), len(data.labels))
        rows = np.concatenate([np.arange(len(base.labels)), np.repeat(added, LIMIT_WEIGHT)])
        model = network.build(params.model, base.images.shape[1:], len(params.fetch.classes), params.train.seed)
        augmentation = params.train.augmentation.times(weights.STRENGTHS[-1])
        train = params.train.model_copy(update={"augmentation": augmentation})
        fit.fit(model, data, (rows, np.empty(0, np.intp)), train, lambda *_: None)
        return model

    accuracies, parts, model = [], [], None
    for week, split in weeks:
        if model is None:
            accuracies.append(week.first)
        else:
            found = model.predict(world(test.images, week.number), batch_size=2000, verbose=0).argmax(axis=1)
            accuracies.append(float((found == test.labels).mean()))
        parts.append(split)
        if week.labels and week.number != WRONG:
            model = fitted(parts)
    return accuracies


def write(weeks: list[Served], base: Split, test: Split) -> None:
    """Write the section of bench/results.md and the picture in docs/."""
    limits, each = limit(weeks, base, test), [week for week, _ in weeks]
    picture(each, limits)
    header = ["week", "served, with the loop", "without it", "the limit", "test split", "version", "drift of", "labels"]
    rows = [
        [
            str(week.number),
            f"{week.served:.1%}",
            f"{week.first:.1%}",
            f"{most:.1%}",
            f"{week.base:.2%}",
            week.version,
            ", ".join(week.alarm),
            str(week.labels or ""),
        ]
        for week, most in zip(each, limits, strict=True)
    ]
    events = "\n".join(f"- Week {week.number}: {week.event}" for week in each if week.event)
    found = "\n".join(f"- {line}" for line in findings(each, limits))
    described = report.machine("python -m bench.loop", "keras", "mlflow")
    report.put(TITLE, f"{described}\n\n{found}\n\n{report.table(header, rows)}\n\nThe cycles:\n\n{events}\n")


def findings(weeks: list[Week], limits: list[float]) -> list[str]:
    """What the table shows, in sentences."""
    before = [week.first for week in weeks if week.number < TURNS]
    whole = next(week.number for week in weeks if week.number == TURNS + 2)  # the change is complete
    cycles = [week.number for week in weeks if week.labels and week.number >= TURNS][:3]
    after = [(week, most) for week, most in zip(weeks, limits, strict=True) if max(cycles[-1], whole) < week.number < MIX]
    good, poor = float(np.mean(before)), float(np.mean([week.first for week, _ in after]))
    back, most = float(np.mean([week.served for week, _ in after])), float(np.mean([most for _, most in after]))
    spent = sum(week.labels for week in weeks if week.number <= cycles[-1])
    promotions = [pair for pair in itertools.pairwise(weeks) if pair[0].promoted]
    worse = [now for now, then in promotions if then.served < then.previous]
    false = [week for week in weeks if week.alarm and week.number < TURNS]
    missed = [week for week in weeks if not week.alarm and week.number >= whole]
    lost = max(weeks[0].base - week.base for week in weeks)
    wrong = next((week for week in weeks if week.number == WRONG), None)
    return [
        f"The change costs {good:.1%} - {poor:.1%} = {100 * (good - poor):.1f} points. After three cycles and {spent:,} "
        f"labels {(back - poor) / (good - poor):.0%} of them are back: {back:.1%}. With all images labelled it would be "
        f"{(most - poor) / (good - poor):.0%}: {most:.1%}.",
        f"Labels in all weeks: {sum(week.labels for week in weeks):,}, of {2_000 * len(weeks):,} images.",
        f"Alarms: {sum(bool(week.alarm) for week in weeks)}; before the change: {len(false)}; weeks after it without one: "
        f"{len(missed)}.",
        f"Promotions: {len(promotions)}. Less accurate than the champion before it, on what is served in the next week: "
        f"{len(worse)}.",
        f"The most that a champion loses on the test split against the first: {100 * max(0.0, lost):.2f} points.",
        *([f"Wrong labels, week {WRONG}: {'promoted' if wrong.promoted else 'no promotion'}."] if wrong else []),
    ]


def picture(weeks: list[Week], limits: list[float]) -> None:
    """Draw the accuracy of what is served in each week."""
    numbers = [week.number for week in weeks]
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(8, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.plot(numbers, limits, color="#888888", linestyle=":", label="every served image labelled")
        axes.plot(numbers, [week.served for week in weeks], color="#0b5cad", marker="o", markersize=3, label="with the loop")
        axes.plot(numbers, [week.first for week in weeks], color="#b3261e", marker="o", markersize=3, label="without it")
        for week in weeks:
            if week.promoted:
                axes.axvline(week.number + 0.5, color="#0b5cad", alpha=0.25, linewidth=1)
        low = axes.get_ylim()[0]
        for number, text in ((TURNS, "digits turn"), (MIX, "one class is frequent"), (WRONG, "wrong labels")):
            axes.annotate(text, (number, low), ha="left", va="bottom", color="#444444")
        axes.set(xlabel="week; a thin line is a promotion", ylabel="right on what is served")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="center right")
        figure.savefig(PICTURE, dpi=150)
