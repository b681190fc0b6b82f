"""Report drift: the JSON report, the plots, the lines on the console and the metrics for MLflow."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.core import console, files
from pipeline.core.params import DriftParams, Params
from pipeline.core.paths import Paths
from pipeline.data.datasets import Pixels
from pipeline.monitoring.drift import CONFIDENCE, PREDICTED_CLASS, Check, Features, class_shares


def content(
    reference: Features, served: Features, checks: Sequence[Check], onnx_sha256: str, params: Params
) -> dict[str, Any]:
    """Return the content of data/drift/report.json."""
    classes, samples = params.fetch.classes, {"reference": reference, "served": served}
    return {
        "drifted": any(check.drifted for check in checks),
        "onnx_sha256": onnx_sha256,
        "bounds": params.drift.model_dump(),
        "images": {role: {name: len(values) for name, values in features.items()} for role, features in samples.items()},
        "checks": by_feature(checks),
        "medians": {
            role: {name: float(np.median(values)) for name, values in features.items() if name != PREDICTED_CLASS}
            for role, features in samples.items()
        },
        "class_shares": {
            role: dict(zip(classes, class_shares(features[PREDICTED_CLASS], len(classes)).tolist(), strict=True))
            for role, features in samples.items()
        },
    }


def by_feature(checks: Sequence[Check]) -> dict[str, dict[str, Any]]:
    """Return the checks as JSON, keyed by the name of the feature."""
    return {check.feature: {name: value for name, value in check._asdict().items() if name != "feature"} for check in checks}


def metrics(checks: Sequence[Check], images: int) -> dict[str, float]:
    """Return the metrics of the MLflow run."""
    named = {f"drift/{check.feature}/{name}": getattr(check, name) for check in checks for name in ("effect_size", "p_value")}
    return {**named, "drift/images": images}


def write_plots(
    reference: Features, served: Features, checks: Sequence[Check], images: Pixels, params: Params, paths: Paths
) -> None:
    """Draw the distributions and the gallery of unusual images into data/drift/."""
    from pipeline.evaluation import style
    from pipeline.monitoring import plots  # importing matplotlib takes a second

    figures = {
        paths.drift_distributions: plots.distributions(reference, served, checks, params.fetch.classes),
        paths.drift_gallery: plots.gallery(reference, served, images, params.fetch.classes, params.drift.gallery),
    }
    for path, figure in figures.items():
        with files.replacing(path) as part:
            style.save(figure, part)


def echo_checks(checks: Sequence[Check], params: DriftParams) -> None:
    """Print one line per check: the verdict, and each value with its threshold."""
    for check in checks:
        values = f"effect size {check.effect_size:.3f} (threshold {params.min_effect_size:g})"
        verdict = "  drift" if check.drifted else "  ok"
        console.echo(verdict, f"{check.feature}: {values}, {check.p_text} (threshold {params.alpha:g})")


def echo(checks: Sequence[Check], images: int, params: DriftParams, paths: Paths) -> None:
    """Print the checks and the verdict over all of them."""
    echo_checks(checks, params)
    if all(check.feature != CONFIDENCE for check in checks):
        console.echo("  skipped", f"{CONFIDENCE}: no validation images to compare with (train.validation_split)")
    drifted = ", ".join(check.feature for check in checks if check.drifted)
    verdict = f"drift of {drifted}" if drifted else "no drift"
    console.echo("drift", f"{verdict} in {images:,} images; report and plots: {paths.drift}")
