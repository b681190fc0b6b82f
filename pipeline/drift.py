"""Compare unlabelled images with the training data to detect drift.

Write data/drift/report.json and its plots.

Example:
    python -m pipeline.drift served.npy --check
"""

import argparse
import sys
from pathlib import Path

from pipeline.core import console, files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data import datasets, folders
from pipeline.inference import onnx_model
from pipeline.monitoring import drift, report
from pipeline.monitoring.drift import TooFewImagesError
from pipeline.serving import image_files

DRIFTED = 3  # exit code of --check


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    train = datasets.load(paths, "train").images
    model = onnx_model.open_for(paths.onnx, train, params.fetch.classes)
    images = image_files.read_arrays(Path(options.source), model.image_shape)
    if left_out := folders.left_out(Path(options.source)):
        console.echo("drift", f"left out {folders.listed(left_out)}, which holds no data")
    if len(images) < params.drift.min_images:
        raise TooFewImagesError(options.source, params.drift.min_images, len(images))
    reference, served = drift.reference_features(model, train, params, paths), drift.served_features(model, images)
    checks = drift.compare(reference, served, model.classes, params.drift)
    content = report.content(reference, served, checks, files.sha256(paths.onnx), params)
    files.write_json(paths.drift_report, content)
    report.write_plots(reference, served, checks, images, params, paths)
    report.echo(checks, len(images), params.drift, paths)

    from pipeline.tracking import run_content, runs  # importing MLflow takes seconds, so the verdict comes first

    tags = {"drifted": str(content["drifted"]).lower(), run_content.ONNX_SHA256: content["onnx_sha256"]}
    runs.log_report("drift", report.metrics(checks, len(images)), tags, paths.drift, params, paths)
    return DRIFTED if options.check and content["drifted"] else 0


if __name__ == "__main__":
    parser = console.parser("drift", __doc__)
    parser.add_argument(
        "source", help="an IDX, npy, npz or Parquet file of uint8 images (n, height, width), or a folder of such files"
    )
    parser.add_argument("--check", action="store_true", help=f"exit with code {DRIFTED} on drift")
    sys.exit(console.run_command(parser, run))
