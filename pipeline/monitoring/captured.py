"""Read the images of a source: what `serve --capture` keeps, other files of arrays, image files, or a folder of these."""

from pathlib import Path

import numpy as np

from pipeline.core.params import Params
from pipeline.data import folders
from pipeline.data.idx import Pixels
from pipeline.ingestion import image_folders
from pipeline.serving import image_files
from pipeline.serving.errors import UnreadableImageError
from pipeline.serving.image_files import Reading

_SCORES = "scores.json"  # what bulk scoring writes beside its tables


def read(source: Path, shape: tuple[int, int], params: Params) -> Pixels:
    """Read every image of a file, or of the files directly in a folder: `(n, height, width)` uint8.

    Image files are brought to the model's images as `predict` does (`predict.layout`).

    Raises:
        UnreadableImageError: a file is damaged, or holds images of another size or none; or there is no file.
    """
    if (source / _SCORES).is_file():
        raise UnreadableImageError(
            source, "images", "predictions of `python -m pipeline.score`: give the images that it scored"
        )
    how = Reading(params.predict.layout)
    paths = [source]
    if source.is_dir():
        paths = sorted(path for path in source.iterdir() if path.is_file() and not folders.holds_no_data(path.name))
    arrays = [
        image_files.read(path, shape, how).pixels if image_folders.is_image(path) else image_files.read_arrays(path, shape)
        for path in paths
    ]
    if not arrays:
        raise UnreadableImageError(source, "a file, or a folder with files", "an empty folder")
    return np.concatenate(arrays)
