"""Compare images that the model was asked about, without labels, with those that it was validated on."""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core import console, datasets, drift, files, inputs
from pipeline.core.datasets import Pixels
from pipeline.core.drift import Check, Features
from pipeline.core.errors import TooFewImagesError
from pipeline.core.inference import OnnxModel
from pipeline.core.params import Params
from pipeline.core.paths import Paths

DRIFTED = 3  # exit code of --check
_SAMPLE = 10_000  # training images to compare with where no validation split is held out


def reference(model: OnnxModel, params: Params, paths: Paths) -> Features:
    """The held-out validation images: of the training data, but not fitted, so that confidence is as on new images."""
    images = datasets.load(paths, "train").images
    _, held_out = datasets.hold_out(datasets.train_rows(paths), params.train.validation_split)
    chosen = np.asarray(images[held_out] if len(held_out) else images[:_SAMPLE])
    return drift.features(chosen, model.predict(chosen))


def report(checks: list[Check], served: Features, images: int) -> dict[str, Any]:
    """What data/drift/report.json holds."""
    return {
        "drifted": any(check.drifted for check in checks),
        "images": images,
        "checks": {check.check: {**check._asdict(), "drifted": bool(check.drifted)} for check in checks},
        "served_means": {name: float(values.mean()) for name, values in served.items() if name != drift.DECIDED},
    }


def draw(reference: Features, served: Features, checks: list[Check], images: Pixels, params: Params, paths: Paths) -> None:
    from pipeline.core import drift_plots, plots  # matplotlib takes a second: after the figures are there

    classes = list(params.fetch.classes)
    plots.save(drift_plots.distributions(reference, served, checks, classes), paths.drift / "distributions.png")
    plots.save(drift_plots.least_sure(images, served, classes), paths.drift / "least_sure.png")


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    model = OnnxModel(paths.onnx)
    images = inputs.read_arrays(Path(options.source), model.image_shape)
    if len(images) < params.drift.minimum_images:
        raise TooFewImagesError(options.source, params.drift.minimum_images, len(images))
    expected, served = reference(model, params, paths), drift.features(images, model.predict(images))
    checks = drift.compare(expected, served, model.classes, params.drift)
    content = report(checks, served, len(images))
    files.write_json(paths.drift / "report.json", content)
    draw(expected, served, checks, images, params, paths)

    from pipeline.core import tracking  # MLflow takes seconds: after the figures are there

    figures = {f"drift/{check.check}/{name}": getattr(check, name) for check in checks for name in ("effect", "p_value")}
    tags = {"drifted": str(content["drifted"]).lower(), "model_sha256": files.sha256(paths.onnx)}
    tracking.log_report("drift", figures, tags, paths.drift, params, paths)
    for check in checks:
        least = f"drift from {params.drift.smallest_effect:g} with p up to {params.drift.alpha:g}"
        console.say(
            "  drifted" if check.drifted else "  same", f"{check.check}: {check.effect:.3f}, p = {check.p_value:.2g}; {least}"
        )
    verdict = "the served images have drifted: `make retrain`" if content["drifted"] else "no drift"
    console.say("drift", f"{verdict} ({len(images):,} images); report and pictures are in {paths.drift}")
    return DRIFTED if options.check and content["drifted"] else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m pipeline.drift", description=__doc__)
    parser.add_argument("source", help="an IDX or npy file, a picture, or a folder of such")
    parser.add_argument("--check", action="store_true", help=f"exit {DRIFTED} when they have drifted")
    sys.exit(console.run_command(parser, run))
