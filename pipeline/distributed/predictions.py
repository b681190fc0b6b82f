"""The Parquet files of a batch prediction: one per block of images, and scores.json, which says what they belong to."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core import files
from pipeline.data.datasets import Pixels
from pipeline.distributed.blocks import Block, read_block
from pipeline.distributed.errors import OutputFolderError
from pipeline.inference.onnx_model import OnnxModel, Probabilities
from pipeline.monitoring import drift

CHECKED = (
    *(drift.CONFIDENCE, drift.PREDICTED_CLASS, drift.INK_FRACTION, drift.MEAN_INTENSITY),
    *("pixel_minimum", "pixel_maximum"),
)  # the columns that the checks read


def path(folder: Path, block: Block) -> Path:
    return folder / f"{block.key}.parquet"


def claim(folder: Path, blocks: Sequence[Block], model: Path) -> None:
    """Write scores.json into `folder`, or check that it describes the same images and model.

    Raises:
        OutputFolderError: the folder holds predictions for other images or by another model.
    """
    manifest = {
        "onnx_sha256": files.sha256(model),
        "images": sum(block.images for block in blocks),
        "blocks": [block.key for block in blocks],
    }
    record = folder / "scores.json"
    if record.exists() and files.read_json(record) != manifest:
        raise OutputFolderError(f"{folder}: expected a new folder, or predictions for these images by this model", "others")
    files.write_json(record, manifest)


def predict_block(block: Block, model: OnnxModel, folder: Path) -> int:
    """Write the predictions for a block, unless their file exists; return the number of its images."""
    if not path(folder, block).exists():  # a machine of a cluster may die after it wrote the file
        images = read_block(block, model.image_shape)
        write(folder, block, images, model.predict(images), model.names)
    return block.images


def write(folder: Path, block: Block, images: Pixels, probabilities: Probabilities, classes: Sequence[str]) -> None:
    """Write the predictions for a block: one row per image. The file appears when it is complete."""
    import pyarrow as pa
    from pyarrow import parquet

    flat, predicted = images.reshape(len(images), -1), probabilities.argmax(axis=1)
    table = pa.table(
        {
            "row": np.arange(block.start, block.stop),
            "label": pa.array(np.asarray(classes, dtype=object)[predicted], pa.string()),
            drift.PREDICTED_CLASS: predicted.astype(np.int16),
            drift.CONFIDENCE: probabilities.max(axis=1),
            "probabilities": pa.FixedSizeListArray.from_arrays(pa.array(probabilities.ravel()), probabilities.shape[1]),
            "pixel_minimum": flat.min(axis=1),
            "pixel_maximum": flat.max(axis=1),
            **{name: values.astype(np.float32) for name, values in drift.image_features(images).items()},
        }
    )
    with files.replacing(path(folder, block)) as part:
        parquet.write_table(table, part)


def count(folder: Path, blocks: Sequence[Block]) -> int:
    """Count the rows of the Parquet files, from their metadata."""
    from pyarrow import parquet

    return sum(parquet.read_metadata(path(folder, block)).num_rows for block in blocks)


def read_checked(folder: Path, blocks: Sequence[Block]) -> Mapping[str, npt.NDArray[Any]]:
    """Read the columns that the checks need: name -> `(n,)`."""
    from pyarrow import parquet

    tables = [parquet.read_table(path(folder, block), columns=list(CHECKED)) for block in blocks]
    return {name: np.concatenate([table[name].to_numpy() for table in tables]) for name in CHECKED}
