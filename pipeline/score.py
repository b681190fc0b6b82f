"""Predict a large set of images into Parquet files, with the checks of drift and validate.

The same command resumes an interrupted one.

Example:
    python -m pipeline.score images/ --out predictions/
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core import console, files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.distributed.blocks import Block, split_into_blocks
from pipeline.distributed.errors import MissingExtraError, ScoreError
from pipeline.inference.onnx_model import OnnxModel
from pipeline.monitoring import drift

_ROWS = 20_000  # images a block: 16 MB of MNIST, some tenths of a second
_COMPARED = 100_000  # images at most that are compared with the training data
_BOUNDED = {"pixel minimum": "pixel_minimum", "pixel maximum": "pixel_maximum", "ink fraction": "ink_fraction"}


def plan(blocks: Sequence[Block], model: Path) -> dict[str, Any]:
    """What scores.json holds: what is scored, and by what. The same command finds the same."""
    return {
        "onnx_sha256": files.sha256(model),
        "images": sum(b.stop - b.start for b in blocks),
        "parts": [b.key for b in blocks],
    }


def claim(folder: Path, planned: Mapping[str, Any]) -> None:
    """Write the plan into the folder, or raise ScoreError if it holds another's scores."""
    path = folder / "scores.json"
    if path.exists() and files.read_json(path) != planned:
        raise ScoreError(f"{folder}: expected a new folder, or the scores of these images by this model", "others")
    files.write_json(path, planned)


def out_of_bounds(found: Sequence[Mapping[str, Any]], params: Params) -> dict[str, int]:
    """How many images break what every training image must keep, by the name of the bound."""
    counts = {}
    for name, column in _BOUNDED.items():
        low, high = getattr(params.validate_, column)
        counts[name] = sum(int(((part[column] < low) | (part[column] > high)).sum()) for part in found)
    return counts


def compared(found: Sequence[Mapping[str, Any]]) -> drift.Features:
    """The figures that drift compares, of evenly spaced images."""
    total = sum(len(part["decided"]) for part in found)
    step = max(1, -(-total // _COMPARED))
    renamed = {"ink_fraction": "ink_fraction", "mean_intensity": "mean_intensity", drift.CONFIDENCE: "confidence"}
    renamed[drift.DECIDED] = "decided"
    return {
        name: np.concatenate([part[column] for part in found])[::step].astype(np.float64) for name, column in renamed.items()
    }


def check(found: Sequence[Mapping[str, Any]], model: OnnxModel, params: Params, paths: Paths) -> dict[str, Any]:
    """Print and return what the checks say of the images that were scored."""
    broken = out_of_bounds(found, params)
    for name, count in broken.items():
        if count:
            console.echo("  outside", f"{name}: {count:,} images are outside what a training image may have")
    served = compared(found)
    if len(served[drift.DECIDED]) < params.drift.min_images:
        console.echo("  left out", f"drift: it is judged from {params.drift.min_images:,} images on")
        return {"out_of_bounds": broken}
    expected = drift.reference(model, datasets.load(paths, "train").images, params, paths)
    checks = drift.compare(expected, served, model.classes, params.drift)
    for mark, text in drift.lines(checks, params.drift):
        console.echo(mark, text)
    return {"out_of_bounds": broken, "drift": {each.check: each._asdict() for each in checks}}


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    path, folder = Path(options.model or paths.onnx), Path(options.out)
    model = OnnxModel(path)
    classes = model.names
    blocks = split_into_blocks(Path(options.source), _ROWS, model.image_shape)
    planned = plan(blocks, path)
    try:
        from pipeline.distributed import batch_predict, cluster
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "ray", "make .venv/.sweep") from error
    claim(folder, planned)
    left = [block for block in blocks if not batch_predict.part_file(folder, block).exists()]
    before = planned["images"] - sum(block.stop - block.start for block in left)
    if before:
        console.echo("score", f"{before:,} images have been scored before")
    if left:
        with cluster.connected(), console.progress("scoring", "image", total=planned["images"], initial=before) as bar:
            for images in batch_predict.score(left, path, classes, folder):
                bar.update(images)
    scored = batch_predict.count(folder, blocks)
    if scored != planned["images"]:
        raise ScoreError(f"{folder}: expected {planned['images']:,} scores, one an image", f"{scored:,}")
    content = check(list(batch_predict.figures(folder, blocks)), model, params, paths)
    files.write_json(folder / "checks.json", content)
    console.echo("score", f"{scored:,} images in {len(blocks)} part(s): {folder}")
    return 0


if __name__ == "__main__":
    parser = console.parser("score", __doc__)
    parser.add_argument("source", help="an npy, npz, IDX or Parquet file of uint8 images, or a folder of such files")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder for the Parquet files; every machine of a cluster must reach it"
    )
    parser.add_argument("--model", metavar="FILE", help="an ONNX file (default: data/model/model.onnx)")
    sys.exit(console.run_command(parser, run))
