"""Bring photographs and drawings to the convention of the images that the model was trained on.

MNIST's convention: light ink on a black background, the ink's bounding box scaled in proportion to 20x20 of the 28x28 pixels,
its centre of mass in the middle (LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition",
Proceedings of the IEEE 86, 1998, section III.A). Images of other sizes keep the ratio of 20/28. `predict.layout: as_is`
in params.yaml is for models of other images: these are only scaled to the model's size.
"""

from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from pipeline.core.params import Layout
from pipeline.data import image_codec
from pipeline.data.idx import Pixels
from pipeline.data.image_codec import Decoded
from pipeline.serving import ink

_BOX = 20 / 28  # the ink's box, as a share of the image's height and width
_INK = 25  # pixels below are background
_SIDE = 400  # larger pictures are reduced to this before ink is searched
_WHITE = 255


class Images(NamedTuple):
    """The images of a file, `(n, height, width)` uint8, and the changes that preprocessing made to them."""

    pixels: Pixels
    changes: tuple[str, ...] = ()


def from_bytes(content: bytes, shape: tuple[int, int], layout: Layout = "mnist") -> Images:
    """Decode an image file that is in memory and bring it to `shape` (height, width).

    Raises:
        ImageFileError: the bytes are no image, are damaged, have too many pixels, or show nothing.
    """
    return read(BytesIO(content), shape, layout)


def read(file: Path | BinaryIO, shape: tuple[int, int], layout: Layout = "mnist", all_frames: bool = False) -> Images:
    """Like `from_bytes`, for a file on disk too, and for all frames of a file. Raises OSError if it cannot be read."""
    side = max(_SIDE, *shape)
    if all_frames:
        frames = [_conform(frame, shape, layout) for frame in image_codec.decode_all(file, own_range=True, side=side)]
        changes = [f"frame {number}: {text}" for number, frame in enumerate(frames) for text in frame.changes]
        return Images(
            np.concatenate([frame.pixels for frame in frames]), tuple(changes) if len(frames) > 1 else frames[0].changes
        )
    decoded = image_codec.decode(file, own_range=True, side=side)
    images = _conform(decoded, shape, layout)
    more = (f"warning: the first of {decoded.frames} frames or pages; --all-frames reads them all",)
    return images._replace(changes=images.changes + more) if decoded.frames > 1 else images


def conform(grey: Pixels, shape: tuple[int, int], layout: Layout = "mnist") -> Images:
    """Bring a grey image `(h, w)` uint8 of any size to `shape` and `layout`: one image `(1, height, width)`.

    An image of this shape with light ink on black stays as it is.

    Raises:
        ImageFileError: the image is blank.
    """
    return _conform(Decoded(grey, 1, grey.shape[1], grey.shape[0]), shape, layout)


def _conform(decoded: Decoded, shape: tuple[int, int], layout: Layout) -> Images:
    grey, resized = decoded.pixels, f"resized from {decoded.width}x{decoded.height} to {shape[1]}x{shape[0]}"
    if layout == "as_is":
        return Images(image_codec.fit(grey, shape)[None], () if grey.shape == shape else (resized,))
    if grey.shape == shape and (exact := _on_plain_ground(grey)):
        return exact
    found = ink.find(grey)
    changes = ["light ink separated from its ground" if found.light else "inverted: dark ink on a light background"]
    drawn = np.asarray((found.strength * _WHITE).round(), np.uint8)
    box = drawn[_box(drawn)]
    if grey.shape == shape and _fits(box, shape):
        return Images(drawn[None], (*changes, *found.notes))
    changes.append(f"{resized}, centred by mass")
    return Images(_centred(_scaled(box, shape), shape)[None], (*changes, *found.notes))


def _on_plain_ground(grey: Pixels) -> Images | None:
    """An image on black as it is, or one on white inverted, if its ink keeps to the convention's box; None otherwise."""
    ground = image_codec.border_median(grey)
    if ground not in (0, _WHITE) or grey.min() == grey.max():
        return None
    light, changes = (grey, ()) if ground == 0 else (_WHITE - grey, ("inverted: dark ink on a light background",))
    return Images(light[None], changes) if _fits(light[_box(light)], grey.shape) else None


def _fits(box: Pixels, shape: tuple[int, ...]) -> bool:
    """Whether the ink's box keeps to its share of an image of `shape`, to the nearest pixel."""
    return all(size <= _BOX * most + 1 for size, most in zip(box.shape, shape, strict=True))


def _box(light: Pixels) -> tuple[slice, slice]:
    """The bounding box of the ink."""
    on = light > min(_INK, int(light.max()) - 1)
    rows, columns = np.flatnonzero(on.any(axis=1)), np.flatnonzero(on.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _scaled(box: Pixels, shape: tuple[int, int]) -> Pixels:
    """Scale the ink's box in proportion to its share of `shape`, with the brightest pixel at 255."""
    factor = min(_BOX * shape[0] / box.shape[0], _BOX * shape[1] / box.shape[1])
    size = (max(1, round(box.shape[1] * factor)), max(1, round(box.shape[0] * factor)))
    small = np.asarray(Image.fromarray(box).resize(size, Image.Resampling.LANCZOS), dtype=np.float64)
    return np.asarray(np.clip(small * (255 / max(small.max(), 1)), 0, 255).round(), dtype=np.uint8)


def _centred(small: Pixels, shape: tuple[int, int]) -> Pixels:
    """Place `small` on a black background of `shape`, its centre of mass in the middle to the nearest pixel.

    The middle is pixel 14 of 28, counted from 0, as in MNIST's own images.
    """
    image = np.zeros(shape, np.uint8)
    corner = []
    for axis in (0, 1):
        profile = small.sum(axis=1 - axis, dtype=np.float64)
        mass = float(profile @ np.arange(small.shape[axis]) / profile.sum())
        corner.append(int(np.clip(round(shape[axis] / 2 - mass), 0, shape[axis] - small.shape[axis])))
    top, left = corner
    image[top : top + small.shape[0], left : left + small.shape[1]] = small
    return image
