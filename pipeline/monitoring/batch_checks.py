"""Check the images of a batch prediction: the bounds of training images, and drift."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core import console
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data.datasets import Pixels
from pipeline.inference.onnx_model import OnnxModel
from pipeline.monitoring import drift, report

Columns = Mapping[str, npt.NDArray[Any]]  # name -> `(n,)`

_MOST_COMPARED = 100_000  # images that the drift checks use, evenly spaced
_BOUNDED = ("pixel_minimum", "pixel_maximum", "ink_fraction")


def check(columns: Columns, model: OnnxModel, train: Pixels, params: Params, paths: Paths) -> dict[str, Any]:
    """Check the predicted images, print the results, and return them as JSON."""
    outside = out_of_bounds(columns, params)
    for name, count in outside.items():
        if count:
            console.echo("  outside", f"{name}: {count:,} images are outside the bounds of training images")
    if len(columns[drift.PREDICTED_CLASS]) < params.drift.min_images:
        console.echo("  skipped", f"drift: needs at least {params.drift.min_images:,} images (drift.min_images)")
        return {"out_of_bounds": outside}
    reference = drift.reference_features(model, train, params, paths)
    checks = drift.compare(reference, features(columns), model.classes, params.drift)
    report.echo_checks(checks, params.drift)
    return {"out_of_bounds": outside, "drift": report.by_feature(checks)}


def out_of_bounds(columns: Columns, params: Params) -> dict[str, int]:
    """Count the images that violate the bounds of section validate, by the name of the bound."""
    bounds = {name: getattr(params.validate_, name) for name in _BOUNDED}
    return {name: int(((columns[name] < low) | (columns[name] > high)).sum()) for name, (low, high) in bounds.items()}


def features(columns: Columns) -> drift.Features:
    """Select the features that drift compares, for at most 100,000 evenly spaced images."""
    step = max(1, -(-len(columns[drift.PREDICTED_CLASS]) // _MOST_COMPARED))
    names = (drift.INK_FRACTION, drift.MEAN_INTENSITY, drift.CONFIDENCE, drift.PREDICTED_CLASS)
    return {name: columns[name][::step].astype(np.float64) for name in names}
