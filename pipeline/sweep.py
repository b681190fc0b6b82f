"""Search for better hyperparameters with Ray; trials are compared on the validation images.

The best trial is offered as a DVC experiment and nothing is applied. The test split is not read.

Example:
    python -m pipeline.sweep
    python -m pipeline.sweep --resume
"""

import argparse
import csv
import io
import shlex
import shutil
import subprocess
import sys
from typing import Any

from pipeline.core import console, files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.distributed import search_space
from pipeline.distributed.errors import MissingExtraError, OfferError, SweepError

_SHOWN = 5  # trials of the table on the console


def table(trials: list[Any]) -> str:
    """trials.csv: a row a trial, the best first."""
    out = io.StringIO()
    names = sorted({name for trial in trials for name in trial.config})
    figures = ["val_loss", "val_accuracy", "loss", "accuracy"]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["trial", "epochs", *figures, *names])
    for trial in trials:
        found = [trial.figures.get(name, "") for name in figures]
        writer.writerow([trial.name, trial.epochs, *found, *(trial.config[name] for name in names)])
    return out.getvalue()


def options_of(config: dict[str, Any]) -> list[str]:
    """The parameters as `dvc exp run` takes them."""
    return [f"--set-param={name}={value}" for name, value in sorted(config.items())]


def offer(trial: Any) -> str:
    """Queue a DVC experiment of the best trial's parameters; return its name.

    Raises:
        OfferError: DVC does not take it.
    """
    name = f"sweep-{trial.name.replace('_', '-')}"
    command = [sys.executable, "-m", "dvc", "exp", "run", "--queue", "--name", name, *options_of(trial.config)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        found = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise OfferError(found, f"dvc {shlex.join(command[3:])}")
    return name


def report(trials: list[Any], params: Params, paths: Paths) -> None:
    """Write the table and the plot, and print the best few."""
    from pipeline.distributed import sweep_plots, sweep_runs
    from pipeline.evaluation import style

    files.write_text(paths.sweep / "trials.csv", table(trials))
    if not (trials[0].failed or trials[0].diverged):
        with files.replacing(paths.sweep / "parallel.png") as part:
            style.save(sweep_plots.parallel(trials, params), part)
    for trial in trials[:_SHOWN]:
        settings = ", ".join(f"{name.rpartition('.')[2]} {_short(value)}" for name, value in sorted(trial.config.items()))
        console.echo("", f"{sweep_runs.outcome(trial)}: {settings}")


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def subject(params: Params, paths: Paths) -> dict[str, Any]:
    """What a sweep is of, as JSON has it: another is another sweep."""
    content = params.model_dump(mode="json", by_alias=True, include={"model", "train", "sweep"})
    return content | {"data": datasets.read_manifest(paths)["fingerprint"]}


def resumed(of: dict[str, Any], record: dict[str, Any]) -> str:
    """The run of the sweep that `record` is of.

    Raises:
        SweepError: it was begun with other parameters or data.
    """
    others = [name for name, content in of.items() if record["of"][name] != content]
    if others:
        remedy = "Put them back, or start a sweep without --resume."
        raise SweepError("what the sweep was begun with", f"another {' and '.join(others)}", remedy)
    return str(record["run_id"])


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    search_space.check(params)
    data = datasets.load(paths, "train")
    parts = datasets.hold_out(datasets.train_rows(paths), params.train.validation_split)
    if not len(parts[1]):
        raise SweepError("images held out for validation", "none", "Set train.validation_split in params.yaml.")
    try:
        from pipeline.distributed import cluster, sweep_runs, trials
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "ray", "make sweep") from error
    begun, of = None, subject(params, paths)
    if options.resume:
        if not trials.can_resume(paths.sweep):
            raise SweepError(f"a sweep to resume in {paths.sweep}", "none", "Start one without --resume.")
        begun = resumed(of, files.read_json(paths.sweep_record))
    with cluster.connected() as machines:
        if not options.resume:
            shutil.rmtree(paths.sweep, ignore_errors=True)
        parent = sweep_runs.open_parent(params, paths, begun)
        files.write_json(paths.sweep_record, {"run_id": parent, "of": of})
        console.echo("sweep", f"{params.sweep.trials} trials of at most {params.train.epochs} epochs on {machines} machine(s)")
        found: list[trials.Trial] = []
        try:
            found = trials.search(data, parts, params, paths.sweep, sweep_runs.Recorder(parent, params, paths), options.resume)
            if found:
                report(found, params, paths)
        finally:
            complete = len(found) == params.sweep.trials
            sweep_runs.close_parent(parent, found, complete, paths.sweep, paths)
    if not complete:
        console.echo("sweep", f"interrupted after {len(found)} trials; `make sweep RESUME=1` goes on from here")
        return console.INTERRUPTED
    failed = sum(trial.failed for trial in found)
    if failed:
        console.echo(
            "sweep", f"{failed} of {len(found)} trials failed, each {params.sweep.max_failures + 1} times: data/sweep/trials"
        )
    if failed == len(found):
        return 1
    name = offer(found[0])
    console.echo("sweep", f"best queued as experiment {name}: `dvc queue start` runs it, `dvc exp apply {name}` takes it")
    return 0


if __name__ == "__main__":
    parser = console.parser("sweep", __doc__)
    parser.add_argument("--resume", action="store_true", help="resume an interrupted sweep")
    sys.exit(console.run_command(parser, run))
