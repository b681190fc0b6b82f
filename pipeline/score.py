"""Predict a large set of images into Parquet files, with the checks of drift and validate.

It uses all cores of this machine, or the cluster that RAY_ADDRESS names. The same command resumes an interrupted one.

Example:
    python -m pipeline.score images/ --out predictions/
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.core import console, files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data import datasets, folders
from pipeline.distributed import batch_predict, predictions
from pipeline.distributed.blocks import Block, split_into_blocks
from pipeline.distributed.errors import MissingExtraError, OutputFolderError
from pipeline.inference.onnx_model import OnnxModel
from pipeline.monitoring import batch_checks

_ROWS = 20_000  # images per block: 16 MB of MNIST, a few tenths of a second


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    path, folder = Path(options.model or paths.onnx), Path(options.out)
    model = OnnxModel(path)
    blocks = split_into_blocks(Path(options.source), _ROWS, model.image_shape)
    if left_out := folders.left_out(Path(options.source)):
        console.echo("score", f"left out {folders.listed(left_out)}, which holds no data")
    ray = options.ray or bool(os.environ.get("RAY_ADDRESS"))
    predictions.claim(folder, blocks, path)
    left = [block for block in blocks if not predictions.path(folder, block).exists()]
    total = sum(block.images for block in blocks)
    done = total - sum(block.images for block in left)
    if done:
        console.echo("score", f"{done:,} images are done already")
    if left:
        with predicting(ray) as predict, console.progress("predicting", "image", total=total, initial=done) as bar:
            for images in predict(left, path, folder):
                bar.update(images)
    written = predictions.count(folder, blocks)
    if written != total:
        raise OutputFolderError(f"{folder}: expected {total:,} predictions", f"{written:,}")
    train = datasets.load(paths, "train").images
    checks = batch_checks.check(predictions.read_checked(folder, blocks), model, train, params, paths)
    files.write_json(folder / "checks.json", checks)
    console.echo("score", f"{written:,} images in {len(blocks)} file(s): {folder}")
    return 0


@contextmanager
def predicting(ray: bool) -> Iterator[Callable[[Sequence[Block], Path, Path], Iterator[int]]]:
    """Yield the function that predicts blocks, in this process or on Ray.

    Raises:
        MissingExtraError: Ray is not installed.
        ClusterError: RAY_ADDRESS names no cluster.
    """
    if not ray:
        yield batch_predict.predict_in_threads
        return
    try:
        from pipeline.distributed import cluster
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "ray", "make .venv/.sweep") from error
    with cluster.connected():
        yield batch_predict.predict_on_ray


if __name__ == "__main__":
    parser = console.parser("score", __doc__)
    parser.add_argument("source", help="an npy, npz, IDX or Parquet file of images, or a folder of such files")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder for the Parquet files; every machine of a cluster must reach it"
    )
    parser.add_argument("--ray", action="store_true", help="predict on Ray, as if RAY_ADDRESS named a cluster")
    parser.add_argument("--model", metavar="FILE", help="an ONNX file (default: data/model/model.onnx)")
    sys.exit(console.run_command(parser, run))
