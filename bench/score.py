"""Batch prediction on Ray against one ONNX Runtime process on all cores: `python -m bench.score`.

Both read 1.2 million images, copies of the training split, from .npy files. The single process writes no results.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench import report
from bench.interleave import ROUNDS
from bench.rows import seconds
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.distributed import batch_predict, cluster
from pipeline.distributed.blocks import read_block, split_into_blocks
from pipeline.inference.onnx_model import OnnxModel

COPIES, ROWS = 20, 20_000


def one_process(source: Path, model: OnnxModel) -> float:
    start = time.perf_counter()
    for block in split_into_blocks(source, ROWS, model.image_shape):
        model.predict(read_block(block, model.image_shape))
    return time.perf_counter() - start


def on_ray(source: Path, model: OnnxModel, onnx: Path) -> float:
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        blocks = split_into_blocks(source, ROWS, model.image_shape)
        sum(batch_predict.predict_blocks(blocks, onnx, Path(out)))
        return time.perf_counter() - start


def main() -> int:
    paths = Paths()
    images, model = datasets.open_split(paths, "train").images, OnnxModel(paths.onnx)
    taken: dict[str, list[float]] = {"one ONNX Runtime process": [], "pipeline.score on Ray": []}
    with tempfile.TemporaryDirectory() as folder, cluster.connected():
        source = Path(folder)
        for copy in range(COPIES):
            np.save(source / f"{copy:02d}.npy", images)
        for _ in range(ROUNDS):
            taken["one ONNX Runtime process"].append(one_process(source, model))
            taken["pipeline.score on Ray"].append(on_ray(source, model, paths.onnx))
    described, count = report.machine("python -m bench.score", "ray", "onnxruntime"), COPIES * len(images)
    report.put("Batch prediction", f"{described} {count:,} images; Ray was running.\n\n{seconds(taken, count)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
