"""Find the ink of a drawing on any paper: in shadow, on grey or coloured ground, light on dark, between ruled lines.

1. The ground behind the ink is a grey-scale closing: it fills what is darker than its surroundings and narrower than a window.
   Strokes are; shadows and gradients are not, and stay (the black top hat of F. Meyer, "Iterative image transformations for an
   automatic screening of cervical smears", J. Histochem. Cytochem. 27, 1979).
2. Ink is the share of the ground's light that it takes, so that it weighs the same in shadow (S. Lu, B. Su and C. L. Tan,
   "Document image binarization using background estimation and stroke edges", IJDAR 13, 2010).
3. The threshold near the ink is Otsu's (N. Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. SMC 9,
   1979).
4. The drawing is what is connected, large and slender, and ends where the picture has an edge. Straight lines across the
   picture, specks and the edges of a scan are left out.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.data.errors import ImageFileError
from pipeline.data.idx import Pixels

Plane = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]

# Lengths are shares of the picture's longer side, contrasts shares of full white.
_WINDOWS = (0.22, 0.44)  # wider than a stroke; the second is for pictures that a bold digit fills
_LEAST = 16 / 255  # contrast of ink to its ground
_SIGMAS = 5  # contrast of ink, in standard deviations of the ground's noise
_PLUMP = 2.5  # strokes are longer than this many times their thickness
_LINE = 0.025  # a straight line is at most this thick
_NEAR = 0.25  # parts of a digit are at most this far apart, as a share of its size
_LINES = "left out: straight lines across the picture"
_MORE = "warning: {} more shapes of similar size; only the largest was predicted. Crop the picture to one digit."


class Ink(NamedTuple):
    """How much ink there is, 0 to 1, `(height, width)`; whether it is lighter than its ground; what was left out."""

    strength: Plane
    light: bool
    notes: tuple[str, ...]


class _Shape(NamedTuple):
    """Connected ink: its pixels, its longer side, the thickness of its stroke, whether it is cut off, and similar ones."""

    mask: Mask
    side: int
    thickness: float
    cut: bool
    others: int


class _Drawing(NamedTuple):
    """Ink, how good a drawing it is, whether there can be no better one, its box, and how many strokes wide it is."""

    ink: Ink
    score: float
    certain: bool
    box: Any
    slender: float

    def is_on(self, sheet: "_Drawing") -> bool:
        """Whether `sheet` is no digit but the paper that this is drawn on: a plump shape around a slender one."""
        inside = all(a.start >= b.start and a.stop <= b.stop for a, b in zip(self.box, sheet.box, strict=True))
        return inside and self.ink.light != sheet.ink.light and sheet.slender < _PLUMP < self.slender


def find(grey: Pixels) -> Ink:
    """Find the ink in a grey picture `(height, width)`. Reduce large pictures first.

    Raises:
        ImageFileError: the picture shows one shade.
    """
    plane = grey.astype(np.float32) / 255
    found: list[_Drawing] = []
    for window in _WINDOWS:
        found += [drawing for light in (False, True) if (drawing := _drawing(plane, light, window))]
        if found and max(found, key=lambda each: each.score).certain:
            break
    if not found:
        raise ImageFileError("ink that differs from the background", "one shade")
    best = max(found, key=lambda each: each.score)
    return next((each for each in found if each.is_on(best)), best).ink


def _drawing(picture: Plane, light: bool, window: float) -> _Drawing | None:
    """The drawing in dark ink, or in light ink; None if there is none."""
    from scipy import ndimage

    plane = 1 - picture if light else picture
    side = max(plane.shape)
    ground, smooth = _ground(plane, max(3, round(window * side)))
    taken = (ground - smooth) / np.maximum(ground, 0.1)
    tenth, quarter = np.quantile(taken, (0.1, 0.25))  # of the ground: ink may fill more than half of a picture
    noise = float(quarter - tenth) / 0.607  # the standard deviation of normal noise with these quantiles
    taken -= quarter + 0.674 * noise
    mask, notes = _binary(taken, max(_LEAST, _SIGMAS * noise), max(3, round(window * side / 4)))
    if not mask.any():
        return None
    shape = _largest(mask)
    full = float(np.median(taken[shape.mask]))
    low = max(0.1 * full, 3 * noise)
    strength = np.where(_grown(shape.mask, max(1, side // 100)), np.clip((taken - low) / (full - low), 0, 1), 0)
    edges = _edge_share(shape.mask, plane, 0.3 * full * ground)
    contrast = float(np.median((ground - smooth)[shape.mask]))
    slender = min(shape.side / shape.thickness, 8)
    notes += [_MORE.format(shape.others)] if shape.others else []
    score = contrast * slender * shape.side * edges**4 * (0.4 if shape.cut else 1)
    certain = edges > 0.9 and slender > 3 and shape.thickness < 0.7 * window * side
    (box,) = ndimage.find_objects(shape.mask.astype(np.int8))
    return _Drawing(Ink(strength.astype(np.float32), light, tuple(notes)), score, certain, box, slender)


def _ground(plane: Plane, window: int) -> tuple[Plane, Plane]:
    """The ground behind dark ink, and the picture with as little noise as the ground has."""
    from scipy import ndimage

    side = max(plane.shape)
    smooth = ndimage.gaussian_filter(plane, side / 400) if side > 100 else plane
    wide = ndimage.grey_closing(np.pad(smooth, window, "edge"), size=(window, window))
    return wide[window:-window, window:-window], smooth


def _binary(taken: Plane, floor: float, reach: int) -> tuple[Mask, list[str]]:
    """Which pixels are ink, without straight lines across the picture."""
    from scipy import ndimage

    near = ndimage.maximum_filter(taken, size=reach) > floor
    if not near.any():
        return np.zeros(taken.shape, bool), []
    mask = taken > max(_otsu(taken[near]), floor)
    lines = _straight_lines(mask)
    if lines is None:
        return mask, []
    around = _grown(lines, 2)
    rest = (taken > max(_otsu(taken[near & ~around]), floor)) & ~around
    crossed = ndimage.binary_closing(rest, np.ones((9, 9))) & around
    level, full = (float(np.quantile(taken[where], 0.75)) for where in (lines, rest))
    if full > 1.25 * level:  # the digit is darker than the lines, so it shows on them
        crossed |= around & (taken > (level + full) / 2)
    return rest | crossed, [_LINES]


def _otsu(values: Plane) -> float:
    """The threshold that parts `values` into the two classes with the largest variance between them."""
    counts, edges = np.histogram(values, bins=256)
    below = np.cumsum(counts)
    sums = np.cumsum(counts * (edges[:-1] + edges[1:]) / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        between = below * (below[-1] - below) * (sums / below - (sums[-1] - sums) / (below[-1] - below)) ** 2
    between = np.nan_to_num(between)
    return float(edges[1:][between >= between.max() * (1 - 1e-9)].mean())


def _straight_lines(mask: Mask) -> Mask | None:
    """Thin lines from one side of the picture to the other; None if there are none, or nothing else."""
    from scipy import ndimage

    lines = _horizontal(mask) | _horizontal(mask.T).T
    if not lines.any():
        return None
    lines |= mask & ndimage.binary_closing(lines, np.ones((5, 5)))  # where they cross each other
    boxes = ndimage.find_objects(ndimage.label(mask & ~_grown(lines, 2), np.ones((3, 3)))[0])
    return lines if any(max(_size(box)) > 0.06 * max(mask.shape) for box in boxes) else None


def _horizontal(mask: Mask) -> Mask:
    from scipy import ndimage

    length = max(5, round(0.1 * mask.shape[1]))
    runs = ndimage.binary_opening(mask, np.ones((1, length)))
    labels, _ = ndimage.label(ndimage.binary_dilation(runs, np.ones((3, length))))
    lines = np.zeros_like(mask)
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        heights = ((labels[rows, columns] == number) & runs[rows, columns]).sum(axis=0)
        thickness = float(np.median(heights[heights > 0]))
        if columns.stop - columns.start < 0.9 * mask.shape[1] or thickness > _LINE * max(mask.shape):
            continue
        tall = 2 * int(np.ceil(thickness)) + 1  # ink that crosses the line
        band = slice(max(0, rows.start - tall), rows.stop + tall)
        crossing = ndimage.binary_opening(mask[band], np.ones((tall, 1)))
        lines[band] |= ndimage.binary_dilation(labels[band] == number, np.ones((3, 1))) & mask[band] & ~crossing
    return lines


def _largest(mask: Mask) -> _Shape:
    """The largest shape, rather one that does not touch the sides, with the smaller parts near it."""
    from scipy import ndimage

    labels, count = ndimage.label(mask, np.ones((3, 3)))
    boxes, areas = ndimage.find_objects(labels), np.bincount(labels.ravel(), minlength=count + 1)[1:]
    touches = [any(part.start == 0 or part.stop == most for part, most in zip(box, mask.shape, strict=True)) for box in boxes]
    weights = [
        area * np.prod(_size(box)) / (16 if touch else 1) for area, box, touch in zip(areas, boxes, touches, strict=True)
    ]
    main = int(np.argmax(weights))
    chosen, others = labels == main + 1, 0
    for index in np.flatnonzero((areas >= 0.02 * areas[main]) & (np.arange(count) != main)):
        if touches[index] and not touches[main]:
            continue
        if _belongs(boxes[index], boxes[main]):
            chosen |= labels == index + 1
        elif areas[index] > 0.25 * areas[main]:
            others += 1
    (box,), side = ndimage.find_objects(chosen.astype(np.int8)), max(_size(boxes[main]))
    thickness = 2 * float(ndimage.distance_transform_edt(np.pad(chosen[box], 1)).max())
    return _Shape(chosen, side, thickness, touches[main], others)


def _belongs(part: Any, main: Any) -> bool:
    """Whether `part` is near `main`, and no digit of its own beside it."""
    gaps = [max(one.start - other.stop, other.start - one.stop) for one, other in zip(part, main, strict=True)]
    beside = gaps[1] > 0 and _size(part)[0] > 0.6 * _size(main)[0]
    return bool(max(gaps) <= (0.05 if beside else _NEAR) * max(_size(main)))


def _size(box: Any) -> tuple[int, int]:
    return box[0].stop - box[0].start, box[1].stop - box[1].start


def _grown(mask: Mask, pixels: int) -> Mask:
    from scipy import ndimage

    return np.asarray(ndimage.binary_dilation(mask, iterations=pixels), bool)


def _edge_share(mask: Mask, plane: Plane, step: Plane) -> float:
    """The share of the outline of `mask` where the picture has an edge: what the window cut off ends anywhere."""
    from scipy import ndimage

    outline = mask & ~ndimage.binary_erosion(mask, border_value=1)
    size = 2 * max(1, round(0.02 * max(plane.shape))) + 1
    steps = ndimage.maximum_filter(plane, size) - ndimage.minimum_filter(plane, size)
    return float((steps[outline] > step[outline]).mean()) if outline.any() else 1.0
