"""Search for better hyperparameters with Ray; trials are compared on the validation images.

The best trial is queued as a DVC experiment; params.yaml stays unchanged. The test split is not read.

Example:
    python -m pipeline.sweep
    python -m pipeline.sweep --resume
"""

import argparse
import shutil
import sys
from typing import Any

from pipeline.core import console
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.data.datasets import Split
from pipeline.distributed import experiment, search_space, sweep_state
from pipeline.distributed.errors import MissingExtraError, SweepError


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    search_space.check(params)
    data = datasets.load(paths, "train")
    rows = datasets.hold_out(datasets.train_rows(paths), params.train.validation_split)
    if not len(rows[1]):
        raise SweepError("validation images", "none", "Set train.validation_split in params.yaml.")
    ended = search(data, rows, options.resume, params, paths)
    if len(ended) < params.sweep.trials:
        console.echo("sweep", f"interrupted after {len(ended)} trials; `make sweep RESUME=1` continues")
        return console.INTERRUPTED
    if failed := sum(trial.failed for trial in ended):
        attempts = params.sweep.max_failures + 1
        console.echo("sweep", f"{failed} of {len(ended)} trials failed in {attempts} attempts each: {paths.sweep / 'trials'}")
    if failed == len(ended):
        return 1
    name = experiment.queue(ended[0].name, ended[0].config)
    console.echo(
        "sweep", f"best trial queued as experiment {name}: `dvc queue start` runs it, `dvc exp apply {name}` applies it"
    )
    return 0


def search(data: Split, rows: Any, resume: bool, params: Params, paths: Paths) -> list[Any]:
    """Run the trials on Ray and in MLflow, and return those that ended, the best first.

    Raises:
        MissingExtraError: Ray or Optuna is not installed.
        SweepError: there is no sweep to resume, or it started with other inputs.
    """
    try:
        from pipeline.distributed import cluster, sweep_report, sweep_runs, trials
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "ray", "make sweep") from error
    if resume and not trials.can_resume(paths.sweep):
        raise SweepError(f"a sweep to resume in {paths.sweep}", "none", "Start one without --resume.")
    run_id = sweep_state.resumed_run(params, paths) if resume else None
    with cluster.connected() as machines:
        if not resume:
            shutil.rmtree(paths.sweep, ignore_errors=True)
        with sweep_runs.parent_run(params, paths, run_id) as parent:
            sweep_state.write(parent.run_id, params, paths)
            count, epochs = params.sweep.trials, params.train.epochs
            console.echo("sweep", f"{count} trials of at most {epochs} epochs on {machines} machine(s)")
            parent.ended = trials.search(data, rows, params, paths.sweep, parent.observer, resume)
            if parent.ended:
                sweep_report.write(parent.ended, params, paths)
    return parent.ended


if __name__ == "__main__":
    parser = console.parser("sweep", __doc__)
    parser.add_argument("--resume", action="store_true", help="resume an interrupted sweep")
    sys.exit(console.run_command(parser, run))
