"""Predict the classes of images in PNG, JPEG, npy, npz or IDX files.

Example:
    python -m pipeline.predict photo.png
    python -m pipeline.predict --json --model models:/mnist-dense@champion images.npy
"""

import argparse
import json
import sys
from pathlib import Path

from pipeline.core import console
from pipeline.core.errors import PipelineError
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.serving import file_predictions
from pipeline.serving.model_source import open_model


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    model = open_model(options.model or str(paths.onnx), options.sha256, params, paths)
    results, failed = [], False
    for name in options.files:
        try:
            results.append(file_predictions.predict_file(Path(name), model))
        except PipelineError as error:  # continue with the other files
            failed = True
            print(f"error: {error}", file=sys.stderr)
    if options.json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
    else:
        for result in results:
            print("\n".join(file_predictions.lines(result)))
    return 1 if failed else 0


if __name__ == "__main__":
    parser = console.parser("predict", __doc__)
    parser.add_argument("files", nargs="+", metavar="FILE", help="image files or arrays")
    parser.add_argument("--model", help="an ONNX file or models:/NAME@ALIAS (default: data/model/model.onnx)")
    parser.add_argument(
        "--sha256", type=console.sha256, metavar="HEX", help="expected hash of the ONNX file; any other file is refused"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    sys.exit(console.run_command(parser, run))
