"""Pictures of served images beside the reference: data in, figure out."""

import numpy as np
from matplotlib.figure import Figure

from pipeline.core.datasets import Pixels
from pipeline.core.drift import DECIDED, Check, Features
from pipeline.core.plots import styled

_BINS = 30


@styled
def distributions(reference: Features, served: Features, checks: list[Check], classes: list[str]) -> Figure:
    """A panel a feature: both distributions, with the verdict as title."""
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    for axes, check in zip(figure.subplots(2, 2).flat, checks, strict=True):
        both = (("reference", reference[check.check]), ("served", served[check.check]))
        if check.check == DECIDED:
            for offset, (label, values) in zip((-0.2, 0.2), both, strict=True):
                shares = np.bincount(values.astype(int), minlength=len(classes)) / len(values)
                axes.bar(np.arange(len(classes)) + offset, shares, width=0.4, label=label)
            axes.set_xticks(range(len(classes)), classes)
        else:
            edges = np.histogram_bin_edges(np.concatenate([values for _, values in both]), _BINS)
            for label, values in both:
                axes.hist(values, edges, weights=np.full(len(values), 1 / len(values)), alpha=0.6, label=label)
        verdict = "DRIFT" if check.drifted else "no drift"
        axes.set_title(f"{check.check.replace('_', ' ')}: {verdict} (effect {check.effect:.3f}, p = {check.p_value:.2g})")
        axes.set_ylabel("share of images")
        axes.legend()
    return figure


@styled
def least_sure(images: Pixels, served: Features, classes: list[str], count: int = 24) -> Figure:
    """The served images of which the model is least sure, each with what it decides."""
    order = np.argsort(served["confidence"], kind="stable")[:count]
    columns = 8
    figure = Figure(figsize=(11, 1.6 * -(-len(order) // columns)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(-(-len(order) // columns), columns)).ravel()
    for axes in panels:
        axes.axis("off")
    for axes, index in zip(panels, order, strict=False):
        axes.imshow(images[index], cmap="gray", vmin=0, vmax=255)
        axes.set_title(f"{classes[int(served[DECIDED][index])]}  {served['confidence'][index]:.0%}", fontsize=9)
    return figure
