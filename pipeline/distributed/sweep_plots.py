"""Plot a sweep in parallel coordinates: one axis per parameter, one line per trial."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pipeline.core.params import Params, RangeParams
from pipeline.evaluation.style import styled

_BEST = 3  # trials drawn in colour


@styled
def parallel(trials: Sequence[Any], params: Params) -> Figure:
    """Draw each trial as a line over its parameters to its validation loss, the best trials in colour.

    Trials that failed or diverged are left out; at least one must be successful.
    """
    ended = [trial for trial in trials if trial.successful]
    names = [*params.sweep.search_space]
    losses = np.log([trial.loss for trial in ended])
    columns = [_positions([trial.config[name] for trial in ended], params.sweep.search_space[name]) for name in names]
    span = np.ptp(losses) or 1.0
    columns.append((losses - losses.min()) / span)
    figure = Figure(figsize=(1.5 * len(columns) + 1, 4.5), layout="constrained")
    axes = figure.subplots()
    for index in reversed(range(len(ended))):
        best = index < _BEST
        style: dict[str, Any] = {"color": "C0", "alpha": 1.0, "zorder": 3} if best else {"color": "0.6", "alpha": 0.5}
        axes.plot([column[index] for column in columns], linewidth=2 if best else 1, **style)
    for index, name in enumerate(names):
        _scale(axes, index, params.sweep.search_space[name])
        axes.text(index, 1.08, name.rpartition(".")[2].replace("_", "\n"), ha="center", va="bottom")
    last = len(names)
    axes.text(last, 1.08, "validation\nloss", ha="center", va="bottom")
    for share, value in ((0, np.exp(losses.min())), (1, np.exp(losses.max()))):
        axes.text(last + 0.05, share, f"{value:.3g}", va="center")
    for index in range(last + 1):
        axes.axvline(index, color="0.3", linewidth=0.8)
    axes.set(xlim=(-0.4, last + 0.5), ylim=(-0.05, 1.05))
    axes.axis("off")
    return figure


def _positions(values: Sequence[Any], space: Any) -> Any:
    """Compute the positions of values on their axis, 0 to 1."""
    if not isinstance(space, RangeParams):
        return np.array([space.choices.index(value) for value in values]) / max(1, len(space.choices) - 1)
    low, high, points = (np.log(part) if space.log else np.asarray(part, float) for part in (space.low, space.high, values))
    return (points - low) / ((high - low) or 1.0)


def _scale(axes: Any, index: int, space: Any) -> None:
    if isinstance(space, RangeParams):
        ticks = [(0.0, f"{space.low:g}"), (1.0, f"{space.high:g}")]
    else:
        ticks = [(position / max(1, len(space.choices) - 1), str(value)) for position, value in enumerate(space.choices)]
    for position, text in ticks:
        axes.text(index + 0.05, position, text, va="center", fontsize=8)
