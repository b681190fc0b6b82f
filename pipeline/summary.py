"""Print the accuracy, the path of the model, and how to see the results.

`make repro` ends with this.

Example:
    python -m pipeline.summary
"""

import argparse
import sys

from pipeline.core import console, files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data import datasets


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    metrics, registration = files.read_json(paths.metrics), files.read_json(paths.registration)
    images = datasets.read_manifest(paths)["files"]["test_images"]["shape"][0]
    int8 = metrics["int8"]["accuracy"]
    console.echo("accuracy", f"{metrics['accuracy']:.2%} on {images:,} test images ({int8:.2%} in int8)")
    console.echo("model", f"{paths.onnx}, registered as {registration['model']} version {registration['version']}")
    hint = "`make ui` shows the run, its curves and plots"
    if paths.tracking_uri.startswith("sqlite:") and not paths.database.exists():
        hint = f"{paths.database} is missing: `make register` records the run again"
    console.echo("results", hint)
    return 0


if __name__ == "__main__":
    parser = console.parser("summary", __doc__)
    sys.exit(console.run_command(parser, run))
