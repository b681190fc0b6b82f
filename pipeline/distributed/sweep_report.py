"""Report a sweep: the table of its trials, the plot, and the best few on the console."""

from collections.abc import Sequence
from typing import Any

from pipeline.core import console, files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.distributed import sweep_plots
from pipeline.distributed.trials import METRICS, Trial
from pipeline.evaluation import style

_SHOWN = 5  # trials on the console


def write(trials: Sequence[Trial], params: Params, paths: Paths) -> None:
    """Write trials.csv and the plot to data/sweep/, and print the best trials. `trials` are sorted, the best first."""
    files.write_text(paths.sweep / "trials.csv", table(trials))
    if trials[0].successful:
        with files.replacing(paths.sweep / "parallel.png") as part:
            style.save(sweep_plots.parallel(trials, params), part)
    for trial in trials[:_SHOWN]:
        settings = ", ".join(f"{name.rpartition('.')[2]} {_short(value)}" for name, value in sorted(trial.config.items()))
        console.echo("", f"{trial.outcome}: {settings}")


def table(trials: Sequence[Trial]) -> str:
    """Return trials.csv: one row per trial, with its metrics and parameters."""
    names = sorted({name for trial in trials for name in trial.config})
    rows = (
        [
            *(trial.name, trial.epochs),
            *(trial.metrics.get(name, "") for name in METRICS),
            *(trial.config[name] for name in names),
        ]
        for trial in trials
    )
    return files.csv_text(["trial", "epochs", *METRICS, *names], rows)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
