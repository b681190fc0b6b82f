"""The plots of evaluate. Each function takes data and returns a figure."""

import math
from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter

from pipeline.core.intervals import wilson
from pipeline.data.datasets import Split
from pipeline.evaluation.style import BLUE, INK, MUTED, ORANGE, RED, heading, label, new_figure, styled
from pipeline.inference.onnx_model import Dense

_MOST_NEURONS = 256
_MOST_BARS = 20  # with more classes the bars have no room for numbers
_MOST_CELLS = 40  # with more classes the cells of the confusion matrix shrink


@styled
def training_curves(epochs: Sequence[Mapping[str, float]]) -> Figure:
    """Loss and accuracy of each epoch, from the training history."""
    figure, axes = new_figure(10, 4, columns=2)
    shown = {"": (BLUE, "training (augmented images)"), "val_": (ORANGE, "validation (original images)")}
    marker = "." if len(epochs) < 30 else ""  # a line through one point would be invisible
    numbers = range(1, len(epochs) + 1)
    for axis, name in zip(axes[0], ("loss", "accuracy"), strict=True):
        for prefix, (colour, title) in shown.items():
            if (metric := prefix + name) in epochs[0]:
                axis.plot(numbers, [epoch[metric] for epoch in epochs], color=colour, label=title, marker=marker)
        axis.set(title=name.capitalize(), xlabel="epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes[0, 0].set_yscale("log")
    axes[0, 0].yaxis.set(
        major_locator=LogLocator(subs=(1, 1.5, 2, 3, 5, 7)), major_formatter="{x:g}", minor_locator=NullLocator()
    )
    axes[0, 1].yaxis.set_major_formatter(PercentFormatter(1))
    axes[0, 0].legend()
    return figure


@styled
def confusion_matrix(counts: npt.NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Counts by actual class (rows) and predicted class (columns). The diagonal has no colour: it would hide the mistakes."""
    classes = [*map(label, classes)]
    cell = 0.62 * min(1, _MOST_CELLS / len(classes))
    size = max(5, cell * len(classes) + 1 + 0.1 * max(map(len, classes)))
    figure, axes = new_figure(size, size)
    axis, font = axes[0, 0], 9 * cell / 0.62
    mistakes = counts.astype(float)
    np.fill_diagonal(mistakes, 0)
    axis.imshow(mistakes, cmap="Oranges", norm=PowerNorm(0.6, vmin=0, vmax=max(1, 2.2 * mistakes.max())))
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour, weight = (MUTED, "normal") if row == column else (INK, "bold")
            axis.text(column, row, f"{count:,}", ha="center", va="center", color=colour, fontweight=weight, fontsize=font)
    correct, total = np.trace(counts), counts.sum()
    axis.set(title=f"Confusion: {total - correct:,} of {total:,} wrong (accuracy {correct / total:.2%})")
    axis.set(xlabel="predicted class", ylabel="actual class", xticks=range(len(classes)), yticks=range(len(classes)))
    axis.set_xticklabels(classes, rotation=0 if max(map(len, classes)) < 4 else 90, fontsize=font)
    axis.set_yticklabels(classes, fontsize=font)
    axis.grid(visible=False)
    return figure


@styled
def worst_mistakes(test: Split, probabilities: npt.NDArray[Any], classes: Sequence[str], most: int) -> Figure:
    """The misclassified test images, the most confident predictions first, `most` at most."""
    classes = [*map(label, classes)]
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != test.labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:most]
    # The width of a column, and the separator of two class names: long names take a line each.
    width, between = (1.15, " ") if max(map(len, classes)) < 4 else (1.9, "\n")
    columns = min(round(11.5 / width), max(4, len(worst)))
    rows = max(1, math.ceil(len(worst) / columns))
    tall = 1.15 * test.images.shape[1] / test.images.shape[2]
    figure, axes = new_figure(columns * width, rows * (tall + 0.6) + 0.5, rows, columns)
    title = f"Most confident mistakes: {len(worst)} of {len(wrong):,} (actual → predicted)"
    heading(figure, title if len(wrong) else "No mistakes")
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, index in zip(axes.flat, worst, strict=False):
        axis.imshow(test.images[index], cmap="gray_r", vmin=0, vmax=255)
        axis.set_title(
            f"{classes[test.labels[index]]}{between}→ {classes[predicted[index]]}",
            color=RED,
            loc="center",
            fontsize=10,
            fontweight="normal",
        )
        axis.text(
            0.5, -0.05, f"{confidence[index]:.0%} · #{index}", transform=axis.transAxes, ha="center", va="top", fontsize=8
        )
    return figure


@styled
def calibration(bins: Sequence[tuple[float, float, int]]) -> Figure:
    """Accuracy against confidence: a dot for each bin, its area proportional to the number of images."""
    figure, axes = new_figure(5, 5)
    axis = axes[0, 0]
    confidence, accuracy, count = (np.array(column) for column in zip(*bins, strict=True))
    axis.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--", label="perfect calibration")
    area = 20 + 400 * count / count.sum()
    axis.scatter(
        confidence,
        accuracy,
        area,
        color=BLUE,
        alpha=0.8,
        linewidth=0,
        clip_on=False,
        zorder=3,
        label="a bin (area: number of images)",
    )
    axis.set(title="Calibration", xlabel="confidence", ylabel="accuracy", xlim=(0, 1.03), ylim=(0, 1.03))
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    axis.legend()
    return figure


@styled
def class_distribution(counts: Mapping[str, npt.NDArray[Any]], classes: Sequence[str]) -> Figure:
    """Number of images of each class, in a panel for each split."""
    classes = [*map(label, classes)]
    figure, axes = new_figure(10, 3.6, columns=len(counts))
    for axis, (split, images), colour in zip(axes[0], counts.items(), (BLUE, ORANGE), strict=False):
        bars = axis.bar(range(len(images)), images, color=colour)
        axis.axhline(images.mean(), color=MUTED, linewidth=1, linestyle="--")
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        if len(classes) <= _MOST_BARS:
            axis.bar_label(bars, fmt="{:,.0f}", fontsize=8, padding=3, bbox=box)
        axis.margins(y=0.1)
        axis.set(title=f"{split}: {images.sum():,} images, mean {images.mean():,.0f} per class", xticks=range(len(classes)))
        flat = max(map(len, classes)) < 4 and len(classes) <= _MOST_BARS
        axis.set_xticklabels(classes, rotation=0 if flat else 90)
        axis.yaxis.set_major_formatter("{x:,.0f}")
        axis.grid(visible=False, axis="x")
    return figure


@styled
def slices(accuracy: float, images: int, found: Mapping[str, Any]) -> Figure:
    """Accuracy with its 95 % interval on the test split, the newest recent sets together, and each recent set.

    Args:
        accuracy: on the `images` of the test split.
        found: `slices` of metrics.json.
    """
    low, high = wilson(accuracy, images)
    base = {"accuracy": accuracy, "images": images, "interval": {"low": low, "high": high}}
    shown = {"test split": base, **found}
    figure, axes = new_figure(8, 1.2 + 0.45 * len(shown))
    axis = axes[0, 0]
    for row, (name, part) in enumerate(shown.items()):
        value, interval = part["accuracy"], part["interval"]
        reach = [[value - interval["low"]], [interval["high"] - value]]
        axis.errorbar(value, row, xerr=reach, fmt="o", color=BLUE if name == "test split" else ORANGE, capsize=4)
        axis.annotate(f"{value:.2%}", (value, row), (0, 7), textcoords="offset points", ha="center", fontsize=9)
    names = [f"{label(name)}: {part['images']:,} images" for name, part in shown.items()]
    axis.set(title="Accuracy, with 95 % intervals", yticks=range(len(shown)), yticklabels=names, ylim=(len(shown) - 0.5, -0.7))
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    axis.grid(visible=False, axis="y")
    return figure


@styled
def hidden_neurons(kernel: npt.NDArray[np.float32], image_shape: tuple[int, ...]) -> Figure:
    """The weights of each neuron, `(pixels, units)`, as an image: blue is positive, red is negative.

    Each image is scaled by its largest absolute weight.
    """
    height, width = image_shape
    units = min(kernel.shape[1], _MOST_NEURONS)
    columns = math.ceil(math.sqrt(units))
    rows = math.ceil(units / columns)
    mosaic = np.full((rows * (height + 2), columns * (width + 2)), np.nan)
    for unit in range(units):
        top, left = unit // columns * (height + 2) + 1, unit % columns * (width + 2) + 1
        weights = kernel[:, unit].reshape(height, width)
        mosaic[top : top + height, left : left + width] = weights / (np.abs(weights).max() or 1)
    scale = 9 / max(mosaic.shape)
    figure, axes = new_figure(max(8, scale * mosaic.shape[1]), scale * mosaic.shape[0] + 0.4)
    axis: Axes = axes[0, 0]
    axis.imshow(mosaic, cmap="RdBu", vmin=-1, vmax=1, interpolation="nearest")
    shown = f"{units}" if units == kernel.shape[1] else f"first {units} of {kernel.shape[1]:,}"
    subject = f"{shown} hidden neurons" if units > 1 else "hidden neuron"
    heading(figure, f"Weights of the {subject}: blue is positive, red is negative")
    axis.set_axis_off()
    return figure


@styled
def layer_diagram(image_shape: tuple[int, ...], layers: Sequence[Dense]) -> Figure:
    """The layers from image to probabilities, with their numbers of parameters."""
    size = "x".join(map(str, image_shape))
    boxes = [("image", f"{size}\nuint8"), ("flatten, scale", f"{layers[0].kernel.shape[0]:,}\n0 to 1")]
    for number, layer in enumerate(layers, 1):
        inputs, units = layer.kernel.shape
        name = "probabilities" if number == len(layers) else f"dense {number}"
        arithmetic = f"{inputs:,} x {units:,} + {units:,}\n= {inputs * units + units:,}"
        boxes.append((name, f"{units:,} {shorten(layer.activation, 18, placeholder=' …')}\n{arithmetic}"))
    figure, axes = new_figure(2.5 * len(boxes), 2.2)
    axis = axes[0, 0]
    for index, (name, text) in enumerate(boxes):
        face = "#eff6ff" if index < 2 else "#dbeafe"
        axis.add_patch(FancyBboxPatch((index * 2.5, 0), 1.9, 1.3, boxstyle="round,pad=0.04", facecolor=face, edgecolor=BLUE))
        axis.text(index * 2.5 + 0.95, 1.06, name, ha="center", va="center", fontweight="bold")
        axis.text(index * 2.5 + 0.95, 0.5, text, ha="center", va="center", color=MUTED)
        if index:
            arrow = {"arrowstyle": "-|>", "color": MUTED}
            axis.annotate("", (index * 2.5 - 0.08, 0.65), (index * 2.5 - 0.52, 0.65), arrowprops=arrow)
    total = sum(layer.kernel.size + layer.bias.size for layer in layers)
    axis.set(title=f"Network: {total:,} parameters", xlim=(-0.15, 2.5 * len(boxes) - 0.4), ylim=(-0.15, 1.45))
    axis.set_axis_off()
    return figure
