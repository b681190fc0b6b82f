"""Predict the classes of images in PNG, JPEG, npy, npz or IDX files.

Example:
    python -m pipeline.predict photo.png
    python -m pipeline.predict --json --model models:/mnist-dense@champion images.npy
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, get_args

from pipeline.core import console
from pipeline.core.errors import PipelineError
from pipeline.core.params import Layout, Params
from pipeline.core.paths import Paths
from pipeline.inference.onnx_model import OnnxModel
from pipeline.serving import file_predictions, image_files
from pipeline.serving.image_files import Reading
from pipeline.serving.model_source import open_model


def run(options: argparse.Namespace, params: Params | None, paths: Paths) -> int:
    opened = open_model(options.model, options.sha256, params, paths)
    unstated = params.predict.layout if params else None
    how = Reading(options.layout or opened.layout or unstated, options.all_frames, options.transpose)
    results, complete = [], True
    for name in options.files:
        predicted, succeeded = _predict(Path(name), opened.model, how)
        results += predicted
        complete &= succeeded
    if options.json:
        print(_json(results))
    else:
        for result in results:
            print("\n".join(file_predictions.lines(result)))
    return 0 if complete else 1


def _predict(path: Path, model: OnnxModel, how: Reading) -> tuple[list[dict[str, Any]], bool]:
    """Predict a file, or the files of a folder. Errors are printed, and the other files go on."""
    try:
        if not path.is_dir():
            return [file_predictions.predict_file(path, model, how)], True
        found, left_out = image_files.in_folder(path)
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return [], False
    if left_out:
        print(f"{path}: {left_out}", file=sys.stderr)
    each = [_predict(file, model, how) for file in found]
    return [result for results, _ in each for result in results], all(succeeded for _, succeeded in each)


def _json(results: list[dict[str, Any]]) -> str:
    """JSON with the characters that stdout can show, and escapes for others."""
    text = json.dumps(results, indent=2, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return json.dumps(results, indent=2)
    return text


if __name__ == "__main__":
    parser = console.parser("predict", __doc__)
    parser.add_argument("files", nargs="+", metavar="FILE", help="image files, arrays, or folders of them")
    parser.add_argument(
        "--model", help="an ONNX file, a folder with model.onnx, or models:/NAME@ALIAS (default: data/model/model.onnx)"
    )
    parser.add_argument(
        "--sha256", type=console.sha256, metavar="HEX", help="expected hash of the ONNX file; any other file is refused"
    )
    parser.add_argument(
        "--layout",
        choices=get_args(Layout),
        help="of the images that the model was trained on (default: as its contract.json states, or predict.layout)",
    )
    parser.add_argument("--all-frames", action="store_true", help="predict every frame or page of a file, not only the first")
    parser.add_argument(
        "--transpose",
        action="store_true",
        help="swap rows and columns: for files from EMNIST, whose images are stored transposed and would be answered wrongly",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    sys.exit(console.run_anywhere(parser, run))
