"""Predict blocks of images in parallel on Ray Data."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray

from pipeline.core.errors import PipelineError
from pipeline.distributed import predictions
from pipeline.distributed.blocks import Block, read_block
from pipeline.inference.onnx_model import OnnxModel


class Predictor:
    """Holds the model in a Ray actor, on one CPU."""

    def __init__(self, onnx: bytes, folder: str) -> None:
        with TemporaryDirectory() as temporary:
            path = Path(temporary) / "model.onnx"
            path.write_bytes(onnx)
            self.model = OnnxModel(path, threads=1)
        self.folder = Path(folder)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        block = Block(**row)
        try:
            if not predictions.path(self.folder, block).exists():  # Ray repeats tasks of a machine that died after writing
                images = read_block(block, self.model.image_shape)
                predictions.write(self.folder, block, images, self.model.predict(images), self.model.names)
        except PipelineError as error:  # Ray would wrap it in its own error, with a traceback
            return {"images": 0, "error": str(error)}
        return {"images": block.images, "error": ""}


def predict_blocks(blocks: Sequence[Block], model: Path, folder: Path) -> Iterator[int]:
    """Predict the blocks on all CPUs of Ray, and yield the number of images of each finished block.

    Raises:
        PipelineError: of a worker, with its message.
    """
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
