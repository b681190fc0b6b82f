"""Seconds and peak memory of adopting 60,000 images in each layout, and two million in Parquet.

`python -m bench.adopt` writes the data to a temporary folder first. With `--large` it adds the two million.
"""

import gzip
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory

import numpy as np

from bench import memory, report
from pipeline.data.datasets import Split
from tests.conftest import EMBEDDED, NAMES, from_idx
from tests.ingestion.writers import WRITERS, png

_LARGE = 2_000_000
_PER_SHARD = 100_000
_ROOT = Path(__file__).parent.parent


def mnist() -> dict[str, Split]:
    """50,000 training and 10,000 test images."""
    arrays = {key: from_idx(gzip.decompress((EMBEDDED / f"{name}.gz").read_bytes())) for key, name in NAMES.items()}
    train = Split(arrays["train_images"][:50_000], arrays["train_labels"][:50_000])
    return {"train": train, "test": Split(arrays["test_images"], arrays["test_labels"])}


def large(root: Path, split: Split) -> Path:
    """Parquet shards of two million images of MNIST, each with pixels of its own in a corner, as PNG files."""
    import pyarrow as pa
    from pyarrow import parquet

    rng = np.random.default_rng(0)
    root.mkdir()
    for shard in range(_LARGE // _PER_SHARD):
        rows = rng.integers(0, len(split.labels), _PER_SHARD)
        images = split.images[rows].copy()
        images[:, :8, :8] = rng.integers(0, 256, (_PER_SHARD, 8, 8))
        encoded = [{"bytes": png(image), "path": None} for image in images]
        parquet.write_table(pa.table({"image": encoded, "label": split.labels[rows]}), root / f"part-{shard:05}.parquet")
    return root


def measured(with_large: bool) -> Iterator[list[str]]:
    """A row for each layout."""
    data = mnist()
    with TemporaryDirectory(dir=_ROOT.parent) as folder:
        root = Path(folder)
        copy(_ROOT / "params.yaml", root)
        for kind, write in WRITERS.items():
            (root / "data set").mkdir(exist_ok=True)
            with TemporaryDirectory(dir=root / "data set") as below:
                yield _row(kind, 60_000, write(Path(below), data), root)
        if with_large:
            yield _row("Parquet of images and labels", _LARGE, large(root / "large", data["train"]), root)


def _row(kind: str, images: int, source: Path, root: Path) -> list[str]:
    cost = memory.measure("-m", "pipeline.adopt", str(source), "--dry-run", "--accept", folder=root)
    row = [kind, f"{images:,}", f"{cost.seconds:.0f}", f"{cost.peak_megabytes:.0f}", f"{cost.private_megabytes:.0f}"]
    print(" ".join(row), file=sys.stderr, flush=True)
    return row


def main() -> int:
    rows = list(measured("--large" in sys.argv))
    header = ["layout", "images", "seconds", "peak memory, MB", "of it private, MB"]
    described = report.machine("python -m bench.adopt --large", "tensorflow", "pillow", "pyarrow")
    text = f"{described} Once each, with the short runs of training and the first model.\n\n{report.table(header, rows)}\n"
    report.put("Adopting data in each layout", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
