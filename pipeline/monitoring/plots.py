"""Plot served images against the reference: data in, figure out."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.data.datasets import Pixels
from pipeline.evaluation.style import label, styled
from pipeline.monitoring.drift import (
    CONFIDENCE,
    INK_FRACTION,
    MEAN_INTENSITY,
    PREDICTED_CLASS,
    Check,
    Features,
    class_shares,
    most_unusual,
)

_BINS = 40
_COLUMNS = 8
_ROLES = ("reference", "served")
_LABELS = {
    INK_FRACTION: "share of pixels above 0",
    MEAN_INTENSITY: "mean pixel, 0 to 255",
    CONFIDENCE: "largest probability",
    PREDICTED_CLASS: "predicted class",
}


@styled
def distributions(reference: Features, served: Features, checks: Sequence[Check], classes: Sequence[str]) -> Figure:
    """Draw one panel per check with both distributions and the verdict."""
    classes = [*map(label, classes)]
    figure = Figure(figsize=(11, 8), layout="constrained")
    for axis, check in zip(figure.subplots(2, math.ceil(len(checks) / 2), squeeze=False).flat, checks, strict=False):
        both = [features[check.feature] for features in (reference, served)]
        if check.feature == PREDICTED_CLASS:
            _bars(axis, both, classes)
        else:
            edges = np.histogram_bin_edges(np.concatenate(both), _BINS)
            for values, role in zip(both, _ROLES, strict=True):
                weights = np.full(len(values), 1 / len(values))
                axis.hist(values, edges, weights=weights, alpha=0.6, label=f"{role}, {len(values):,} images")
        if check.feature == CONFIDENCE:
            axis.set_yscale("log")  # nearly all are confident; a linear axis would hide the others
        verdict = "drifted" if check.drifted else "no drift"
        result = f"effect size {check.effect_size:.3f}, {check.p_text}"
        axis.set_title(f"{check.feature.replace('_', ' ')}: {verdict} ({result})")
        axis.set(xlabel=_LABELS[check.feature], ylabel="share of images")
        axis.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
        axis.legend()
        axis.margins(y=0.25)  # room for the legend
    for axis in figure.axes[len(checks) :]:
        axis.set_axis_off()
    return figure


def _bars(axis: Axes, both: Sequence[npt.NDArray[np.float64]], classes: Sequence[str]) -> None:
    for offset, predicted, role in zip((-0.2, 0.2), both, _ROLES, strict=True):
        positions, label = np.arange(len(classes)) + offset, f"{role}, {len(predicted):,} images"
        axis.bar(positions, class_shares(predicted, len(classes)), 0.4, label=label)
    axis.set_xticks(range(len(classes)))
    axis.set_xticklabels(classes, rotation=0 if max(map(len, classes)) < 4 and len(classes) <= 20 else 90)
    axis.grid(visible=False, axis="x")


@styled
def gallery(reference: Features, served: Features, images: Pixels, classes: Sequence[str], most: int) -> Figure:
    """Draw the most unusual served images with their predicted class, confidence and most unusual feature."""
    classes = [*map(label, classes)]
    unusual = most_unusual(reference, served, most)
    rows = math.ceil(len(unusual) / _COLUMNS)
    height = 1.15 * images.shape[1] / images.shape[2]
    figure = Figure(figsize=(1.4 * _COLUMNS, rows * (height + 1.1) + 0.6), layout="constrained")
    figure.suptitle(f"The most unusual of {len(images):,} served images", x=0.01, ha="left", fontsize=11, fontweight="bold")
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).flat
    for axis in panels:
        axis.set_axis_off()
    separator = " " if max(map(len, classes)) < 4 else "\n"
    for axis, (index, feature) in zip(figure.axes, unusual, strict=False):
        axis.imshow(images[index], cmap="gray_r", vmin=0, vmax=255)
        name, confidence = classes[int(served[PREDICTED_CLASS][index])], served[CONFIDENCE][index]
        axis.set_title(f"{name}{separator}{confidence:.0%}", loc="center", fontsize=10, fontweight="normal")
        caption = f"{feature.replace('_', ' ')}\n{served[feature][index]:.3g} · #{index}"
        axis.text(0.5, -0.05, caption, transform=axis.transAxes, ha="center", va="top", fontsize=8)
    return figure
