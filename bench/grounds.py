"""Test digits as people photograph and scan them, drawn on many grounds: for `python -m bench.pictures` and its test."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Plane = npt.NDArray[np.float64]  # (height, width) or (height, width, 3), 0 to 255
Ground = Callable[[Plane, np.random.Generator], Plane]

SIDE = 400  # pixels of a picture
INK, CHALK = 45.0, 225.0


def alpha(digit: npt.NDArray[np.uint8], rng: np.random.Generator) -> Plane:
    """Coverage by ink, 0 to 1: the digit enlarged 5 to 11 times, somewhere in the picture."""
    size = int(rng.integers(140, 310))
    large = np.asarray(Image.fromarray(digit).resize((size, size), Image.Resampling.BICUBIC), np.float64) / 255
    top, left = rng.integers(0, SIDE - size, 2)
    plane = np.zeros((SIDE, SIDE))
    plane[top : top + size, left : left + size] = large
    return plane


def _mix(cover: Plane, paper: Any, ink: Any = INK) -> Plane:
    return np.asarray(paper * (1 - cover) + ink * cover)


def _axes() -> tuple[Plane, Plane]:
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    return y, x


def _uniform(level: float) -> Ground:
    return lambda cover, rng: _mix(cover, level)


def _gradient(cover: Plane, rng: np.random.Generator) -> Plane:
    y, x = _axes()
    return _mix(cover, 235.0) * (1 - 0.45 * (x + y) / 2)


def _vignette(cover: Plane, rng: np.random.Generator) -> Plane:
    y, x = _axes()
    return _mix(cover, 240.0) * (1 - 0.8 * ((x - 0.5) ** 2 + (y - 0.5) ** 2))


def _shadow(softness: float) -> Ground:
    """A shadow that takes 45 % of the light from one side of an edge through the picture."""

    def ground(cover: Plane, rng: np.random.Generator) -> Plane:
        y, x = _axes()
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.2, 0.2)
        distance = (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle) - offset
        return _mix(cover, 230.0) * (1 - 0.45 / (1 + np.exp(-np.clip(distance / softness, -50, 50))))

    return ground


def _noise(cover: Plane, rng: np.random.Generator) -> Plane:
    """A camera's noise in bad light, and JPEG's blocks."""
    noisy = np.clip(_mix(cover, 200.0) + rng.normal(0, 18, cover.shape), 0, 255)
    out = io.BytesIO()
    Image.fromarray(noisy.astype(np.uint8)).save(out, "JPEG", quality=40)
    return np.asarray(Image.open(out), np.float64)


def _texture(cover: Plane, rng: np.random.Generator) -> Plane:
    """Recycled paper: blotches and fibres."""
    blotches = Image.fromarray(rng.normal(0, 14, (20, 20)).astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    fibres = Image.fromarray(rng.normal(0, 9, (200, 100)).astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return _mix(cover, 190 + np.asarray(blotches, np.float64) + np.asarray(fibres, np.float64))


def _coloured(paper: tuple[int, int, int], ink: tuple[int, int, int]) -> Ground:
    return lambda cover, rng: _mix(cover[..., None], np.array(paper, float), np.array(ink, float))


def _blackboard(cover: Plane, rng: np.random.Generator) -> Plane:
    _, x = _axes()
    board = 55 + 25 * x + rng.normal(0, 6, cover.shape)
    return _mix(cover, board, CHALK)


def _ruled(cover: Plane, rng: np.random.Generator) -> Plane:
    paper = np.full((SIDE, SIDE), 238.0)
    step, first = int(rng.integers(50, 90)), int(rng.integers(0, 50))
    for row in range(first, SIDE, step):
        paper[row : row + 3] = 140.0
    return _mix(cover, paper)


def _grid(cover: Plane, rng: np.random.Generator) -> Plane:
    paper = np.full((SIDE, SIDE), 238.0)
    step = int(rng.integers(30, 50))
    for line in range(int(rng.integers(0, step)), SIDE, step):
        paper[line : line + 2] = 165.0
        paper[:, line : line + 2] = 165.0
    return _mix(cover, paper)


def _frame(cover: Plane, rng: np.random.Generator) -> Plane:
    paper = np.full((SIDE, SIDE), 245.0)
    edge = int(rng.integers(2, 6))
    for line in (slice(4, 4 + edge), slice(SIDE - 4 - edge, SIDE - 4)):
        paper[line, 4:-4] = 30.0
        paper[4:-4, line] = 30.0
    return _mix(cover, paper)


def _scan(cover: Plane, rng: np.random.Generator) -> Plane:
    """A scanner's dark edge, dust, and a hair."""
    page = _mix(cover, 250.0)
    page[:, -3:] = 20.0
    for y, x in rng.integers(0, SIDE - 3, (12, 2)):
        page[y : y + 2, x : x + 2] = 120.0
    return page


def _desk(cover: Plane, rng: np.random.Generator) -> Plane:
    """A sheet on a dark desk."""
    page = _mix(cover, 225.0)
    desk = 70 + rng.normal(0, 8, (SIDE + 160, SIDE + 220))
    desk[70 : 70 + SIDE, 90 : 90 + SIDE] = page
    return desk


def _flash(cover: Plane, rng: np.random.Generator) -> Plane:
    y, x = _axes()
    cy, cx = rng.uniform(0.3, 0.7, 2)
    light = 0.55 + 0.6 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 0.06)
    return np.minimum(_mix(cover, 220.0) * light, 255.0)


GROUNDS: dict[str, Ground] = {
    "white paper": _uniform(255),
    "grey paper, 240": _uniform(240),
    "grey paper, 205": _uniform(205),
    "grey paper, 170": _uniform(170),
    "gradient": _gradient,
    "vignette": _vignette,
    "soft shadow": _shadow(0.08),
    "hard shadow": _shadow(0.004),
    "noise and JPEG": _noise,
    "recycled paper": _texture,
    "blue ink on yellow paper": _coloured((250, 225, 110), (40, 60, 170)),
    "red ink on grey paper": _coloured((170, 170, 170), (190, 40, 40)),
    "chalk on a blackboard": _blackboard,
    "flash": _flash,
    "ruled paper": _ruled,
    "grid paper": _grid,
    "frame": _frame,
    "scanner's edge and dust": _scan,
    "sheet on a desk": _desk,
}


def picture(digit: npt.NDArray[np.uint8], ground: Ground, rng: np.random.Generator) -> Image.Image:
    """The digit on the ground, as an image of 8 bits."""
    pixels = ground(alpha(digit, rng), rng)
    return Image.fromarray(np.clip(pixels, 0, 255).round().astype(np.uint8))
