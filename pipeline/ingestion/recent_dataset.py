"""A recent data set: images that were served and then labelled, divided into those to train on and those to test on.

The test images are a random sample of what is served: they tell without bias how good a model is today. They are the test
split of the source. Without one, images are held out by the hash of their content, which keeps each in its split for good.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.core.fetch_params import ExtraParams, FetchParams
from pipeline.data import idx
from pipeline.data.idx import Hashed, Pixels
from pipeline.ingestion import conversion, held_out, layouts
from pipeline.ingestion.layout_dataset import divided
from pipeline.ingestion.samples import ALL

_SHARE = 0.5  # of the images of a source without a test split

Part = tuple[Pixels, Pixels]


class RecentDataset(NamedTuple):
    """The arrays `images` and `labels` of `train` and `test`, which are in files, and the layout in words."""

    arrays: dict[str, dict[str, Hashed]]
    layout: str


def read(source: Path, extra: ExtraParams, params: FetchParams, radius: float, size: Any, folder: Path) -> RecentDataset:
    """Write `train_images.npy`, `train_labels.npy` and the same for `test` to `folder`; each may have no images.

    Images of an npz file are as the model got them, so `fetch.invert` and `fetch.white` do not change them.

    Raises:
        LayoutError: the layout is unknown, or something in it is wrong.
    """
    if extra.npz:
        params = params.model_copy(update={"invert": False, "white": conversion.WHITE})
    with TemporaryDirectory(prefix="recent-", dir=folder) as scratch:
        layout = layouts.recognise(source, Path(scratch), params)
        only_test = {"test": layout.splits["test"]()} if layout.splits.keys() == {"test"} else None
        nothing = np.zeros((0, *size), np.uint8), np.zeros(0, np.uint8)
        parts = {"train": nothing, "test": nothing} if only_test else {}
        for name, samples in (only_test or divided(layout)).items():
            found = conversion.convert(samples, params, Path(scratch) / f"{name}.raw", size)
            parts[name] = found.images, found.labels
        chosen = _held_out(*parts[ALL], extra, radius) if ALL in parts else _kept(parts["train"], parts["test"], extra)
        arrays = {split: _write(part, split, folder) for split, part in chosen.items()}
    return RecentDataset(arrays, layout.kind)


def _held_out(images: Pixels, labels: Pixels, extra: ExtraParams, radius: float) -> dict[str, Part]:
    share = _SHARE if extra.test_share is None else extra.test_share
    test = held_out.test_images(images, labels, share, radius) if share else np.zeros(len(labels), bool)
    return {"train": (images[~test], labels[~test]), "test": (images[test], labels[test])}


def _kept(train: Part, test: Part, extra: ExtraParams) -> dict[str, Part]:
    """The splits of the source; with a `test_share` below 1, the rest of its test images is for training."""
    share = 1.0 if extra.test_share is None else extra.test_share
    stays: npt.NDArray[np.bool_] = held_out.content_positions(test[0]) < share
    images, labels = (np.concatenate([mine, others[~stays]]) for mine, others in zip(train, test, strict=True))
    return {"train": (images, labels), "test": (test[0][stays], test[1][stays])}


def _write(part: Part, split: str, folder: Path) -> dict[str, Hashed]:
    return {
        kind: idx.write(folder / f"{split}_{kind}.npy", values.shape, [np.ascontiguousarray(values).tobytes()])
        for kind, values in zip(("images", "labels"), part, strict=True)
    }
