"""Predict blocks of images in parallel: in threads of this process, or on a cluster of Ray."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.core.errors import PipelineError
from pipeline.distributed import predictions
from pipeline.distributed.blocks import Block
from pipeline.inference.onnx_model import OnnxModel


def predict_in_threads(blocks: Sequence[Block], model: Path, folder: Path) -> Iterator[int]:
    """Predict the blocks on all CPUs of this machine, and yield the number of images of each finished block.

    Threads suffice: ONNX Runtime, NumPy and PyArrow release the interpreter's lock while they compute, read and write.
    """
    shared = OnnxModel(model, threads=1)
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        yield from pool.map(lambda block: predictions.predict_block(block, shared, folder), blocks)
    finally:
        pool.shutdown(cancel_futures=True)


class Predictor:
    """Holds the model in a Ray actor, on one CPU."""

    def __init__(self, onnx: bytes, folder: str) -> None:
        with TemporaryDirectory() as temporary:
            path = Path(temporary) / "model.onnx"
            path.write_bytes(onnx)
            self.model = OnnxModel(path, threads=1)
        self.folder = Path(folder)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"images": predictions.predict_block(Block(**row), self.model, self.folder), "error": ""}
        except PipelineError as error:  # Ray would wrap it in one of its own, and print the worker's traceback
            return {"images": 0, "error": str(error)}


def predict_on_ray(blocks: Sequence[Block], model: Path, folder: Path) -> Iterator[int]:
    """Predict the blocks on all CPUs of Ray, and yield the number of images of each finished block.

    Raises:
        PipelineError: a block cannot be read.
    """
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    cpus = max(1, int(ray.cluster_resources().get("CPU", os.cpu_count() or 1)))
    dataset = ray.data.from_items([block._asdict() for block in blocks], override_num_blocks=len(blocks))
    predicted = dataset.map(
        Predictor,
        fn_constructor_args=(model.read_bytes(), str(folder.absolute())),
        compute=ray.data.ActorPoolStrategy(size=min(cpus, len(blocks))),
        num_cpus=1,
    )
    for row in predicted.iter_rows():
        if row["error"]:
            raise PipelineError(row["error"])
        yield row["images"]
