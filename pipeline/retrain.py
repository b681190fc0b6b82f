"""Run one retraining cycle: fetch, rebuild, decide, and publish a new champion or change nothing.

The next cycle completes an interrupted one; completed steps are skipped.

Example:
    python -m pipeline.retrain --seed 3
    python -m pipeline.retrain --stale
"""

import argparse
import sys
from datetime import UTC, datetime

from pipeline.core import console, files
from pipeline.core.errors import PipelineError
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.monitoring import advice
from pipeline.promotion import dvc_remote, dvc_state, new_labels, retrain_report, retraining
from pipeline.promotion.errors import RepositoryError, RetrainError
from pipeline.promotion.publishing import Publisher
from pipeline.promotion.retrain_report import Outcome


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    if options.stale:
        return print_age(params, paths)
    publisher = Publisher(paths, params.tracking.model)
    try:
        publisher.repository.branch()
    except RepositoryError as error:
        todo = "Clone the repository, or `git switch` to a branch."
        raise RetrainError("a git checkout on a branch", error.reason, todo) from error
    with retraining.exclusive(paths):
        outcome, problem = None, None
        paths.promotion.unlink(missing_ok=True)
        try:
            outcome = cycle(options, publisher, params, paths)
        except PipelineError as error:
            problem = error
        report(outcome, problem, params, paths)
    if problem:
        raise problem
    return 0


def cycle(options: argparse.Namespace, publisher: Publisher, params: Params, paths: Paths) -> Outcome:
    """Run one retraining cycle. After a refusal, or if the data or a stage fails, the tree is as in the last commit.

    Raises:
        RetrainError: the checkout holds other changes, another DVC command is running in it, or a stage fails.
        UpstreamError, DvcRemoteError: the cycle could not publish its result.
        NotPublishedError: the remote does not answer with the champion after the push.
        RepositoryError: git or DVC fails.
    """
    repository = publisher.repository
    dvc_state.repair(repository)
    for name in new_labels.commit(repository, paths):
        console.echo("retrain", f"committed the labelled images {name}")
    written = [*repository.published_files(), *([paths.params.name] if options.seed is not None else [])]
    retraining.check_clean(repository, [*written, dvc_remote.CONFIG])
    retraining.prepare(publisher, written)
    retraining.get_outputs(repository)
    try:
        if options.seed is not None:
            retraining.set_seed(paths, options.seed)
        retraining.rebuild(repository)
        if retraining.is_done(publisher, written, params, paths):
            for line in advice.lines(paths):
                console.echo("retrain", line)
            return Outcome.NOTHING_NEW
        outcome = retraining.decide(repository, options.first, options.require)
    except RetrainError:
        retraining.discard(repository, written, paths)
        raise
    except KeyboardInterrupt:
        if options.seed is not None:  # the next cycle would take it for a change of yours; the trained model stays
            repository.git("checkout", "--quiet", "HEAD", "--", paths.params.name)
        raise
    if outcome is Outcome.REFUSED:
        retraining.discard(repository, written, paths)
        retraining.check_champion(params, paths)
        return outcome
    return retraining.publish(publisher, written, params, paths)


def report(outcome: Outcome | None, problem: Exception | None, params: Params, paths: Paths) -> None:
    """Record in the store how the cycle ended, and write the summary page.

    Args:
        outcome: None if the cycle failed with `problem`.
    """
    from pipeline.tracking import runs
    from pipeline.tracking.connection import connected

    decision = files.read_json(paths.promotion) if paths.promotion.is_file() else None
    previous, link = None, "none"
    try:
        with connected(params, paths):
            previous = retraining.record(outcome, params)
            if decision:
                link = runs.run_link(decision["run_id"], paths)
    except PipelineError:
        if problem is None:  # otherwise report the first problem, not this one
            raise
    summary = retrain_report.summary(outcome, str(problem) if problem else None, decision, previous, link)
    retrain_report.write(summary, paths)
    retrain_report.tell_job(outcome, previous)
    if outcome:
        console.echo("retrain", f"{retrain_report.MEANING[outcome]}; the report is {paths.retrain_summary}")


def print_age(params: Params, paths: Paths) -> int:
    """Print how long ago the last retraining cycle ended; return exit code 1 if that is more than retrain.max_age_days."""
    from pipeline.promotion import champions
    from pipeline.tracking.connection import connected

    with connected(params, paths):
        last = champions.last_cycle(params.tracking.model)
    if last is None:
        console.echo("stale", "expected a retraining cycle in the store, found none: run `make retrain`")
        return 1
    days, limit = (datetime.now(UTC) - last.at).total_seconds() / 86400, params.retrain.max_age_days
    verdict = "ok" if days <= limit else "stale"
    console.echo(verdict, f"the last retraining cycle ended {days:.1f} days ago, {last.outcome}; limit: {limit:g} days")
    return 0 if verdict == "ok" else 1


if __name__ == "__main__":
    parser = console.parser("retrain", __doc__)
    parser.add_argument("--seed", type=int, help="train with this seed instead of train.seed")
    parser.add_argument("--require", choices=["non_inferior", "superior"], help="override promote.require")
    parser.add_argument(
        "--first", action="store_true", help="if there is no champion, promote a challenger that meets the minimum"
    )
    parser.add_argument(
        "--stale", action="store_true", help="only check; fail if the last cycle is older than retrain.max_age_days"
    )
    sys.exit(console.run_command(parser, run))
