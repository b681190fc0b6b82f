"""The data sets that labelling made: data/collected/NAME.npz, tracked by DVC and listed in `fetch.extra`.

`x_train`, `y_train`: the informative part. `x_test`, `y_test`: the random part. `other`: images of none of the classes, which
are kept so that they are not offered again. Images are `(n, height, width)` uint8, as the model gets them. Labels are `(n,)`
names of classes: the numbers of classes change when one is added. What is empty is left out.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core import files
from pipeline.core.errors import first_line
from pipeline.core.fetch_params import ExtraParams
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data.datasets import Split
from pipeline.data.idx import Pixels
from pipeline.ingestion import held_out
from pipeline.monitoring.errors import CollectedError

_IMAGES = ("x_train", "x_test", "images", "other")  # the arrays of images

Arrays = Mapping[str, npt.NDArray[Any]]


def free_name(params: Params, paths: Paths, today: date) -> str:
    """The name of a new set: `recent-YYYY-MM-DD`, with `-2`, `-3` ... if that is taken."""
    name = f"recent-{today:%Y-%m-%d}"
    taken = {each.name for each in params.fetch.extra} | {path.name.partition(".")[0] for path in paths.collected.glob("*")}
    return next(each for each in (name, *(f"{name}-{number}" for number in range(2, 10_000))) if each not in taken)


def write(path: Path, arrays: Arrays) -> None:
    """Write the arrays that are not empty. Equal arrays give equal bytes."""
    with files.replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **{name: array for name, array in arrays.items() if len(array)})


def entry(name: str, paths: Paths, arrays: Arrays) -> dict[str, Any]:
    """The entry of fetch.extra for a set. Without a random part, nothing of the informative part is held out in its place."""
    source = (paths.collected / f"{name}.npz").relative_to(paths.root).as_posix()
    no_random_part = {"test_share": 0} if len(arrays.get("x_train", ())) and not len(arrays.get("x_test", ())) else {}
    return {"name": name, "source": source, "kind": "recent", **no_random_part}


def labelled(paths: Paths, shape: Sequence[int]) -> Pixels:
    """All images that were labelled, `(n, height, width)` uint8; those of another size than `shape` are left out.

    Raises:
        CollectedError: a set is not in place, or is damaged.
    """
    absent = [path.with_suffix("") for path in sorted(paths.collected.glob("*.npz.dvc")) if not path.with_suffix("").exists()]
    if absent:
        raise CollectedError(absent[0], "only its .dvc file")
    found = [_read(path) for path in sorted(paths.collected.glob("*.npz"))]
    arrays = [each[name] for each in found for name in _IMAGES if name in each and each[name].shape[1:] == tuple(shape)]
    return np.concatenate([np.empty((0, *shape), np.uint8), *arrays])


def newest_random_part(params: Params, paths: Paths) -> tuple[str, Split] | None:
    """The random part of the last set of fetch.extra that labelling made and that has one; None if there is none.

    Images that `test_share` releases for training are left out.
    """
    for extra in reversed(params.fetch.extra):
        path = paths.root / extra.source
        if extra.recent and path.parent == paths.collected and (part := _random_part(extra, path, params.fetch.classes)):
            return extra.name, part
    return None


def _random_part(extra: ExtraParams, path: Path, classes: Sequence[str]) -> Split | None:
    if not path.is_file():
        raise CollectedError(path, "none")
    arrays = _read(path)
    if "x_test" not in arrays:
        return None
    share = 1.0 if extra.test_share is None else extra.test_share
    stays = held_out.content_positions(arrays["x_test"]) < share
    names = arrays["y_test"][stays].tolist()
    if unknown := sorted(set(names) - set(classes)):
        raise CollectedError(path, f"the class {unknown[0]}, which fetch.classes lacks")
    return Split(arrays["x_test"][stays], np.array([classes.index(name) for name in names], np.uint8)) if names else None


def _read(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # a damaged file can make NumPy raise anything
        raise CollectedError(path, f"a damaged file ({first_line(error)})") from error
