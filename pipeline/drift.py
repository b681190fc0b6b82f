"""Compare unlabelled images with the training data to detect drift.

Write data/drift/report.json and its plots.

Example:
    python -m pipeline.drift served.npy --check
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core import console, files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.data.datasets import Pixels
from pipeline.inference import onnx_model
from pipeline.monitoring import drift
from pipeline.monitoring.drift import Check, Features, TooFewImagesError
from pipeline.serving import image_files

DRIFTED = 3  # exit code of --check


def report(expected: Features, served: Features, checks: list[Check], onnx_sha256: str, params: Params) -> dict[str, Any]:
    """What data/drift/report.json holds."""
    classes, both = params.fetch.classes, {"reference": expected, "served": served}
    return {
        "drifted": any(check.drifted for check in checks),
        "onnx_sha256": onnx_sha256,
        "bounds": params.drift.model_dump(),
        "images": {role: {name: len(values) for name, values in found.items()} for role, found in both.items()},
        "checks": {check.check: {key: value for key, value in check._asdict().items() if key != "check"} for check in checks},
        "medians": {
            role: {name: float(np.median(values)) for name, values in found.items() if name != drift.DECIDED}
            for role, found in both.items()
        },
        "class_shares": {
            role: dict(zip(classes, drift.shares(found[drift.DECIDED], len(classes)).tolist(), strict=True))
            for role, found in both.items()
        },
    }


def draw(expected: Features, served: Features, checks: list[Check], images: Pixels, params: Params, paths: Paths) -> None:
    """Draw the pictures into data/drift."""
    from pipeline.evaluation import style
    from pipeline.monitoring import plots  # matplotlib takes a second: after the figures are there

    figures = {
        paths.drift_distributions: plots.distributions(expected, served, checks, params.fetch.classes),
        paths.drift_gallery: plots.gallery(expected, served, images, params.fetch.classes, params.drift.gallery),
    }
    for path, figure in figures.items():
        with files.replacing(path) as part:
            style.save(figure, part)


def say(checks: list[Check], images: int, params: Params, paths: Paths) -> None:
    """Print each check with what was found and from where on it is drift, and the verdict."""
    for mark, text in drift.lines(checks, params.drift):
        console.echo(mark, text)
    if not any(check.check == drift.CONFIDENCE for check in checks):
        console.echo(
            "  left out", f"{drift.CONFIDENCE}: train.validation_split holds no images out that would tell what is usual"
        )
    drifted = [check.check for check in checks if check.drifted]
    verdict = f"{', '.join(drifted)} drifted" if drifted else "no drift"
    console.echo("drift", f"{verdict} in {images:,} images; report and pictures: {paths.drift}")


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    train = datasets.load(paths, "train").images
    model = onnx_model.open_for(paths.onnx, train, params.fetch.classes)
    images = image_files.read_arrays(Path(options.source), model.image_shape)
    if len(images) < params.drift.min_images:
        raise TooFewImagesError(options.source, params.drift.min_images, len(images))
    expected = drift.reference(model, train, params, paths)
    served = {**drift.of_images(images), **drift.of_decisions(model.predict(images))}
    checks = drift.compare(expected, served, model.classes, params.drift)
    content = report(expected, served, checks, files.sha256(paths.onnx), params)
    files.write_json(paths.drift_report, content)
    draw(expected, served, checks, images, params, paths)
    say(checks, len(images), params, paths)

    from pipeline.tracking import run_content, runs  # MLflow takes seconds: after all else is done

    figures = {f"drift/{check.check}/{name}": getattr(check, name) for check in checks for name in ("effect", "p_value")}
    figures["drift/images"] = len(images)
    tags = {"drifted": str(content["drifted"]).lower(), run_content.ONNX_SHA256: content["onnx_sha256"]}
    runs.log_report("drift", figures, tags, paths.drift, params, paths)
    return DRIFTED if options.check and content["drifted"] else 0


if __name__ == "__main__":
    parser = console.parser("drift", __doc__)
    parser.add_argument("source", help="an IDX, npy or npz file of uint8 images (n, height, width), or a folder of such files")
    parser.add_argument("--check", action="store_true", help=f"exit with code {DRIFTED} on drift")
    sys.exit(console.run_command(parser, run))
