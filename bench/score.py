"""Batch prediction in threads and on Ray, against one thread of ONNX Runtime: `python -m bench.score`.

All read 1.2 million images, copies of the training split, from .npy files, and write the same Parquet files.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from bench import report
from bench.interleave import ROUNDS
from bench.rows import seconds
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.distributed import batch_predict, cluster, predictions
from pipeline.distributed.blocks import Block, split_into_blocks
from pipeline.inference.onnx_model import OnnxModel

COPIES, ROWS = 20, 20_000


Predict = Callable[[Sequence[Block], Path, Path], Iterable[int]]


def in_one_process(blocks: Sequence[Block], onnx: Path, folder: Path) -> list[int]:
    """Predict and write one block after the other, each on all cores of ONNX Runtime."""
    model = OnnxModel(onnx)
    return [predictions.predict_block(block, model, folder) for block in blocks]


WAYS: dict[str, Predict] = {
    "one block after the other": in_one_process,
    "pipeline.score": batch_predict.predict_in_threads,
    "pipeline.score --ray": batch_predict.predict_on_ray,
}


def timed(predict: Predict, source: Path, onnx: Path) -> float:
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        sum(predict(split_into_blocks(source, ROWS, OnnxModel(onnx).image_shape), onnx, Path(out)))
        return time.perf_counter() - start


def main() -> int:
    paths = Paths()
    images = datasets.open_split(paths, "train").images
    taken: dict[str, list[float]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as folder, cluster.connected():
        source = Path(folder)
        for copy in range(COPIES):
            np.save(source / f"{copy:02d}.npy", images)
        for _ in range(ROUNDS):
            for name, predict in WAYS.items():
                taken[name].append(timed(predict, source, paths.onnx))
    described, count = report.machine("python -m bench.score", "ray", "onnxruntime"), COPIES * len(images)
    report.put("Batch prediction", f"{described} {count:,} images; Ray was running.\n\n{seconds(taken, count)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
