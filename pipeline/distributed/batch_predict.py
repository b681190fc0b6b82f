"""Scoring in bulk on Ray Data: each block of images by itself, into a Parquet file of its own, once.

A part file appears under its name when it is complete, so what is there is done.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from pyarrow import parquet

from pipeline.core import files
from pipeline.data.datasets import Pixels
from pipeline.distributed.blocks import Block, read_block
from pipeline.inference.onnx_model import OnnxModel, Probabilities
from pipeline.monitoring import drift


def part_file(folder: Path, block: Block) -> Path:
    return folder / f"{block.key}.parquet"


def table(start: int, images: Pixels, probabilities: Probabilities, classes: Sequence[str]) -> pa.Table:
    """What a part file holds: a row an image, with its number in its file, the decision, and figures of its pixels."""
    flat, best = images.reshape(len(images), -1), probabilities.argmax(axis=1)
    return pa.table(
        {
            "row": np.arange(start, start + len(images)),
            "label": pa.array(np.asarray(classes, dtype=object)[best], pa.string()),
            "decided": best.astype(np.int16),
            "confidence": probabilities.max(axis=1),
            "probabilities": pa.FixedSizeListArray.from_arrays(pa.array(probabilities.ravel()), probabilities.shape[1]),
            "pixel_minimum": flat.min(axis=1),
            "pixel_maximum": flat.max(axis=1),
            **{name: values.astype(np.float32) for name, values in drift.of_images(images).items()},
        }
    )


class Scorer:
    """Holds the model in a process of Ray's, on one core."""

    def __init__(self, onnx: bytes, classes: Sequence[str], folder: str) -> None:
        with TemporaryDirectory() as temporary:
            path = Path(temporary) / "model.onnx"
            path.write_bytes(onnx)
            self.model = OnnxModel(path, threads=1)
        self.classes, self.folder = classes, Path(folder)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        block = Block(**row)
        target = part_file(self.folder, block)
        if not target.exists():  # Ray runs a task again whose machine died after it had written
            images = read_block(block, self.model.image_shape)
            with files.replacing(target) as part:
                parquet.write_table(table(block.start, images, self.model.predict(images), self.classes), part)
        return {"images": block.stop - block.start}


def score(left: Sequence[Block], model: Path, classes: Sequence[str], folder: Path) -> Iterator[int]:
    """Score the blocks that are left, on every core that Ray has; yields how many images a block had as it is done."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    cores = max(1, int(ray.cluster_resources().get("CPU", os.cpu_count() or 1)))
    workers = min(cores, len(left))
    rows = ray.data.from_items([block._asdict() for block in left], override_num_blocks=len(left))
    scored = rows.map(
        Scorer,
        fn_constructor_args=(model.read_bytes(), list(classes), str(folder.absolute())),
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=1,
    )
    for row in scored.iter_rows():
        yield row["images"]


def count(folder: Path, blocks: Sequence[Block]) -> int:
    """The images in the part files, by their own account."""
    return sum(parquet.read_metadata(part_file(folder, block)).num_rows for block in blocks)


def figures(folder: Path, blocks: Sequence[Block]) -> Iterator[dict[str, Any]]:
    """What the checks look at, part by part: `(n,)` each."""
    columns = ["confidence", "decided", "pixel_minimum", "pixel_maximum", "ink_fraction", "mean_intensity"]
    for block in blocks:
        read = parquet.read_table(part_file(folder, block), columns=columns)
        yield {name: read[name].to_numpy() for name in columns}
