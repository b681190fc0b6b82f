"""The picture of a sweep: parameters side by side, a line a trial."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pipeline.core.params import Params, RangeParams
from pipeline.evaluation.style import styled

_BEST = 3  # trials drawn strongly


@styled
def parallel(trials: Sequence[Any], params: Params) -> Figure:
    """Each trial as a line over its parameters to its validation loss, the best in colour.

    Those that failed or diverged are left out; one at least must not have.
    """
    ended = [trial for trial in trials if not trial.failed and not trial.diverged]
    names = [*params.sweep.search_space]
    losses = np.log([trial.figures["val_loss"] for trial in ended])
    columns = [_places([trial.config[name] for trial in ended], params.sweep.search_space[name]) for name in names]
    span = np.ptp(losses) or 1.0
    columns.append((losses - losses.min()) / span)
    figure = Figure(figsize=(1.5 * len(columns) + 1, 4.5), layout="constrained")
    axes = figure.subplots()
    for place in reversed(range(len(ended))):
        best = place < _BEST
        style: dict[str, Any] = {"color": "C0", "alpha": 1.0, "zorder": 3} if best else {"color": "0.6", "alpha": 0.5}
        axes.plot([column[place] for column in columns], linewidth=2 if best else 1, **style)
    for place, name in enumerate(names):
        _scale(axes, place, params.sweep.search_space[name])
        axes.text(place, 1.08, name.rpartition(".")[2].replace("_", "\n"), ha="center", va="bottom")
    last = len(names)
    axes.text(last, 1.08, "validation\nloss", ha="center", va="bottom")
    for share, value in ((0, np.exp(losses.min())), (1, np.exp(losses.max()))):
        axes.text(last + 0.05, share, f"{value:.3g}", va="center")
    for place in range(last + 1):
        axes.axvline(place, color="0.3", linewidth=0.8)
    axes.set(xlim=(-0.4, last + 0.5), ylim=(-0.05, 1.05))
    axes.axis("off")
    return figure


def _places(values: Sequence[Any], space: Any) -> Any:
    """Where values lie between the ends of their axis, 0 to 1."""
    if not isinstance(space, RangeParams):
        return np.array([space.choices.index(value) for value in values]) / max(1, len(space.choices) - 1)
    low, high, found = (np.log(part) if space.log else np.asarray(part, float) for part in (space.low, space.high, values))
    return (found - low) / ((high - low) or 1.0)


def _scale(axes: Any, place: int, space: Any) -> None:
    if isinstance(space, RangeParams):
        marks = [(0.0, f"{space.low:g}"), (1.0, f"{space.high:g}")]
    else:
        marks = [(share / max(1, len(space.choices) - 1), str(value)) for share, value in enumerate(space.choices)]
    for share, text in marks:
        axes.text(place + 0.05, share, text, va="center", fontsize=8)
