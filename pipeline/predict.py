"""Predict the classes of images in PNG, JPEG, npy, npz or IDX files.

Example:
    python -m pipeline.predict photo.png
    python -m pipeline.predict --json --model models:/mnist-dense@champion images.npy
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.core import console, files
from pipeline.core.errors import PipelineError
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.inference.onnx_model import OnnxModel
from pipeline.serving import image_files
from pipeline.serving.errors import OtherModelError


def predict(path: Path, model: OnnxModel, classes: list[str]) -> dict[str, Any]:
    """The file's name, what was done to its picture, and for each image the label and the probability of each class."""
    images = image_files.read(path, model.image_shape)
    probabilities = model.predict(images.pixels)
    found = [
        {
            "label": classes[row.argmax()],
            "probability": round(float(row.max()), 6),
            "probabilities": {name: round(float(value), 6) for name, value in zip(classes, row, strict=True)},
        }
        for row in probabilities
    ]
    return {"file": str(path), "changes": list(images.changes), "images": found}


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The result of a file as a table: a line an image, with the two next likely classes."""
    for number, image in enumerate(result["images"]):
        ranked = sorted(image["probabilities"].items(), key=lambda entry: -entry[1])
        others = ", ".join(f"{name} {value:.1%}" for name, value in ranked[1:3])
        name = result["file"] if len(result["images"]) == 1 else f"{result['file']}[{number}]"
        yield f"{name}  {image['label']}  {image['probability']:.1%}  ({others})"
    for change in result["changes"]:
        yield f"  {change}"


def open_model(source: str, sha256: str | None, params: Params, paths: Paths) -> OnnxModel:
    """The model in the file `source`, or of the registry where `source` is a `models:/` address.

    Raises:
        OtherModelError: its SHA-256 is not `sha256`, or, in the registry, not the one that its version is tagged with.
    """
    if not source.startswith("models:/"):
        return _checked(Path(source), source, [sha256])
    from pipeline.tracking import registry, runs  # MLflow takes seconds, and a file does without

    with runs.store_errors(paths), TemporaryDirectory(prefix="predict-") as folder:
        runs.connect(params, paths)
        path = registry.download_uri(source, Path(folder)) / "model.onnx"
        return _checked(path, source, [sha256, registry.tagged_sha256(source)])


def _checked(path: Path, source: str, hashes: Sequence[str | None]) -> OnnxModel:
    """Open `path` unless one of the `hashes` that are given is another file's."""
    for expected in filter(None, hashes):
        if (found := files.sha256(path)) != expected.lower():
            raise OtherModelError(source, expected, found)
    return OnnxModel(path)


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    model = open_model(options.model or str(paths.onnx), options.sha256, params, paths)
    classes = model.names
    results, failed = [], False
    for name in options.files:
        try:
            results.append(predict(Path(name), model, classes))
        except PipelineError as error:  # the other files have their answers all the same
            failed = True
            print(f"error: {error}", file=sys.stderr)
    if options.json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
    else:
        for result in results:
            print("\n".join(lines(result)))
    return 1 if failed else 0


if __name__ == "__main__":
    parser = console.parser("predict", __doc__)
    parser.add_argument("files", nargs="+", metavar="FILE", help="image files or arrays")
    parser.add_argument("--model", help="an ONNX file or models:/NAME@ALIAS (default: data/model/model.onnx)")
    parser.add_argument("--sha256", metavar="HEX", help="expected hash of the ONNX file; any other file is refused")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    sys.exit(console.run_command(parser, run))
