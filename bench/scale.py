"""Time and memory of the stages that read the training data, for 60,000 to 2.4 million images: `python -m bench.scale`.

The images are augmented copies of the training split. The cost of one more image is the difference between two sizes, which
leaves out the imports.
"""

import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

from bench import report
from bench.memory import Cost, measure
from bench.rows import Row, table
from pipeline.core import params
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.training import tensorflow_setup

SIZES = (60_000, 600_000, 2_400_000)
STAGES = ("fetch", "validate", "train")
_CHUNK = 10_000


def write_source(folder: Path, images: int) -> None:
    """Write IDX files with `images` training images and the original test split."""
    read, train, test = params.load(Path("params.yaml")), datasets.load(Paths(), "train"), datasets.load(Paths(), "test")
    with tensorflow_setup.lean_tensorflow(read.train.threads):
        from pipeline.training.augmentation import RandomDistortion
    distort = RandomDistortion(read.train.augmentation, 0)
    count = len(train.labels)
    with (folder / "train-images").open("wb") as file:
        file.write(header(images, *train.images.shape[1:]))
        for start in range(0, images, _CHUNK):
            taken = train.images[start % count :][:_CHUNK]
            copies = taken if start < count else np.asarray(distort(taken, training=True)).round().astype(np.uint8)
            file.write(np.ascontiguousarray(copies).tobytes())
    labels = np.resize(train.labels, images)
    for name, array in (("train-labels", labels), ("test-images", test.images), ("test-labels", test.labels)):
        (folder / name).write_bytes(header(*array.shape) + array.tobytes())


def header(*shape: int) -> bytes:
    """The header of an IDX file of uint8."""
    return bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()


def write_params(folder: Path, images: int) -> None:
    yaml = YAML()
    content = yaml.load(Path("params.yaml"))
    content["fetch"]["sources"] = ["source"]
    content["fetch"]["max_bytes"] = 10**10
    for key, file in content["fetch"]["files"].items():
        file["name"], file["sha256"] = key.replace("_", "-"), None
    content["validate"]["rows"]["train"] = [images, images]
    content["validate"]["ink_fraction"] = content["validate"]["pixel_maximum"] = [0, 255]  # augmentation lightens some images
    content["train"]["epochs"] = 1
    yaml.dump(content, folder / "params.yaml")


def costs(images: int) -> tuple[dict[str, Cost], float]:
    """The cost of each stage on `images` images, and the size of the data in megabytes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "source").mkdir()
        # In a separate process, so that this one stays small: see bench.memory.measure.
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            pool.submit(write_source, folder / "source", images).result()
        write_params(folder, images)
        by_stage = {stage: measure("-m", f"pipeline.{stage}", folder=folder) for stage in STAGES}
        return by_stage, (folder / "data" / "raw" / "train_images.npy").stat().st_size / 2**20


def rows(results: dict[int, tuple[dict[str, Cost], float]]) -> list[Row]:
    table_rows = []
    for stage in STAGES:
        small, large = [
            (results[more][0][stage].seconds - results[few][0][stage].seconds) / (more - few) for few, more in pairwise(SIZES)
        ]
        growth = results[SIZES[-1]][0][stage].private_megabytes - results[SIZES[0]][0][stage].private_megabytes
        data = results[SIZES[-1]][1] - results[SIZES[0]][1]
        table_rows.append(
            Row(f"{stage}: time of one more image, from {SIZES[1]:,} on", f"up to {SIZES[1]:,}", large / small, most=1.2)
        )
        table_rows.append(Row(f"{stage}: growth of private memory", "growth of the data", growth / data, most=1.0))
    return table_rows


def main() -> int:
    results = {images: costs(images) for images in SIZES}
    cells = [
        [
            f"{images:,}",
            f"{megabytes:.0f}",
            *(f"{cost[stage].seconds:.1f} s, {cost[stage].private_megabytes:.0f} MB" for stage in STAGES),
        ]
        for images, (cost, megabytes) in results.items()
    ]
    described = report.machine("python -m bench.scale", "tensorflow", "great-expectations")
    sizes = report.table(["training images", "MB", *STAGES], cells)
    report.put("More images", f"{described} One run of each; train takes one epoch.\n\n{table(rows(results))}\n\n{sizes}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
