"""Turn the numbers of a request into images, or say what is wrong with them.

The fast way takes what a correct request has. Whatever it cannot take is read again slowly, to be accepted or explained.
"""

import json
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import orjson

from pipeline.data.idx import Pixels
from pipeline.serving.exchange import RefusedRequestError

Select = Callable[[Any], Any]


def from_json(body: bytes, select: Select, shape: tuple[int, int]) -> tuple[Pixels, Any]:
    """Read the images that `select` finds in a JSON document; return them, `(n, *shape)` uint8, and the document.

    Raises:
        RefusedRequestError: it is not JSON, or the images are not whole numbers of 0 to 255 of that shape.
    """
    try:
        content = orjson.loads(body)
    except ValueError:
        content = _parsed(body)
    try:
        return _stacked(select(content), shape, b"true" in body or b"false" in body), content
    except (TypeError, ValueError, OverflowError):
        return _explained(select(_parsed(body)), shape), content


def _parsed(body: bytes) -> Any:
    """Read JSON as Python's parser does: with NaN, and with numbers of any size."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedRequestError(400, "json", f"expected JSON, found {error}") from error


def _stacked(images: Any, shape: tuple[int, int], suspicious: bool) -> Pixels:
    """Join the rows of images as bytes. Raise TypeError or ValueError if anything is not as it should be.

    Args:
        suspicious: whether there may be true and false, which count as numbers, among the pixels.
    """
    height, width = shape
    rows = list(chain.from_iterable(images))
    if not rows or {len(image) for image in images} != {height} or {len(row) for row in rows} != {width}:
        raise ValueError
    if suspicious and bool in {type(pixel) for row in rows for pixel in row}:
        raise TypeError
    return np.frombuffer(b"".join(map(bytes, rows)), np.uint8).reshape(-1, height, width)


def _explained(images: Any, shape: tuple[int, int]) -> Pixels:
    expected = f"whole numbers of 0 to 255 of shape (n, {shape[0]}, {shape[1]})"
    try:
        array = np.array(images)
    except (ValueError, RecursionError) as error:
        raise RefusedRequestError(400, "shape", f"expected {expected}, found lists of different lengths") from error
    whole = array.dtype.kind == "f" and bool(np.isfinite(array).all() and (array == np.trunc(array)).all())
    if array.dtype.kind not in "iu" and not whole:
        raise RefusedRequestError(400, "pixels", f"expected {expected}, found {_kind(array)}")
    if array.ndim != 3 or array.shape[1:] != shape or not len(array):
        raise RefusedRequestError(400, "shape", f"expected {expected}, found shape {array.shape}")
    if array.min() < 0 or array.max() > 255:
        raise RefusedRequestError(400, "pixels", f"expected {expected}, found {int(array.min())} to {int(array.max())}")
    if _holds_truth(images):
        raise RefusedRequestError(400, "pixels", f"expected {expected}, found true or false among them")
    return np.asarray(array, np.uint8)


def _kind(array: Any) -> str:
    return {"f": "numbers with a fraction, or NaN", "b": "true or false", "U": "text"}.get(array.dtype.kind, "something else")


def _holds_truth(images: list[list[list[Any]]]) -> bool:
    """Look for `true` and `false`, which NumPy converts to 1 and 0 among numbers."""
    return any(type(pixel) is bool for image in images for row in image for pixel in row)
