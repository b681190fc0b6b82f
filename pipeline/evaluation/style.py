"""The style of all plots."""

from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.figure import Figure

INK, MUTED, GRID = "#1f2933", "#64748b", "#e2e8f0"
BLUE, ORANGE, RED = "#2563eb", "#ea7317", "#c81e1e"

_STYLE: Any = {
    "font.family": "DejaVu Sans",  # bundled with matplotlib, so every machine draws the same pixels
    "font.size": 10,
    "text.color": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.prop_cycle": f"cycler('color', {[BLUE, ORANGE, RED]})",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "figure.dpi": 110,
    "savefig.dpi": 110,
    "legend.frameon": False,
}

_LONGEST_LABEL = 24  # signs of a class name in a picture

styled = style.context(["default", _STYLE])  # overrides the matplotlibrc of the machine


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """A figure of `width` by `height` inches, and its axes as an array `(rows, columns)`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def label(name: str) -> str:
    """A class name as text in a picture: shortened if it is long, and with dollars that begin no formula."""
    shown = name if len(name) <= _LONGEST_LABEL else f"{name[: _LONGEST_LABEL - 1]}…"
    return shown.replace("$", r"\$")


def heading(figure: Figure, text: str) -> None:
    """Give the whole figure a title in the style of axes titles."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=11, fontweight="bold")


@styled
def save(figure: Figure, path: Path) -> None:
    """Write a PNG. The metadata omits the matplotlib version, so that an upgrade leaves equal plots byte-identical."""
    figure.savefig(path, metadata={"Software": None})
