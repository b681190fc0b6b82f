"""Run one retraining cycle: fetch, rebuild, decide, and publish a new champion or change nothing.

The next cycle completes an interrupted one; completed steps are skipped.

Example:
    python -m pipeline.retrain --seed 3
    python -m pipeline.retrain --stale
"""

import argparse
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from filelock import FileLock, Timeout

from pipeline.core import console, files
from pipeline.core.errors import PipelineError
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.promotion import git_tags, retrain_report
from pipeline.promotion.errors import RepositoryError, RetrainError
from pipeline.promotion.repository import Repository
from pipeline.promotion.retrain_report import Outcome

_REFUSED = 3  # exit code of promote --check


def cycle(options: argparse.Namespace, repository: Repository, params: Params, paths: Paths) -> Outcome:
    """Run one retraining cycle. After a refusal or a failure the tree is as in the last commit.

    Raises:
        RetrainError: the checkout holds other changes, another DVC command is running in it, or a stage fails.
        RepositoryError: git or DVC fails.
    """
    repository.mend()
    own = [*repository.published_files(), paths.params.name] if options.seed is not None else repository.published_files()
    if foreign := [file for file in repository.changed() if file not in own]:
        raise RetrainError("a checkout without changes", ", ".join(foreign), "Commit or stash them.")
    if at_work := repository.busy():
        raise RetrainError("no other DVC command at work in this checkout", at_work, "Wait for it to end.")
    if repository.has_dvc_remote():
        repository.dvc("pull", "--quiet", "--run-cache", "--allow-missing")
    try:
        if options.seed is not None:
            _set_seed(paths, options.seed)
        rebuild(repository)
        if not repository.changed(own) and is_published(repository, params, paths):
            return Outcome.NOTHING_NEW
        decided = promote(options, repository)
    except RetrainError:
        keep_reports(paths)
        repository.restore(own)
        raise
    except KeyboardInterrupt:
        if options.seed is not None:  # else the next cycle would take it for somebody's change; what was trained stays
            repository.git("checkout", "--quiet", "HEAD", "--", paths.params.name)
        raise
    if decided is Outcome.REFUSED:
        keep_reports(paths)
        repository.restore(own)
        return decided
    publish(repository, own, params, paths)
    return decided


def rebuild(repository: Repository) -> None:
    """Fetch again, because DVC does not see that a source changed, and run what follows from it.

    A stage that ran on the same inputs elsewhere, in a cycle that was cut short, is restored from the remote.
    """
    shared = ["--pull"] if repository.has_dvc_remote() else []
    for command in (["repro", "--force", "--single-item", "fetch"], ["repro", *shared]):
        if repository.shown("dvc", *command) != 0:
            raise RetrainError("every stage to succeed", "one that failed, above", "Mend the data or the code.")


def promote(options: argparse.Namespace, repository: Repository) -> Outcome:
    flags = [*(["--first"] if options.first else []), *(["--require", options.require] if options.require else [])]
    code = repository.shown("pipeline.promote", "--check", *flags)
    if code not in (0, _REFUSED):
        raise RetrainError("a decision", "none, as said above", "Mend this and repeat.")
    return Outcome.REFUSED if code == _REFUSED else Outcome.PROMOTED


def is_published(repository: Repository, params: Params, paths: Paths) -> bool:
    """Whether the model in place is the champion that git tags name, and its remote has the commit."""
    tagged = git_tags.champion(paths.root, params.tracking.model)
    md5 = tagged and git_tags.locked_md5(paths.root, tagged.commit, paths.onnx)
    return md5 is not None and md5 == files.md5(paths.onnx) and not repository.ahead()


def publish(repository: Repository, own: list[str], params: Params, paths: Paths) -> None:
    """Commit what the cycle wrote, tag it as the champion, and push outputs, branch and tags."""
    if changed := repository.changed(own):
        repository.git("add", "--", *changed)
        repository.git(
            "commit", "--quiet", "--message", retrain_report.message(files.read_json(paths.promotion), params.tracking.model)
        )
    if repository.shown("pipeline.promote", "--tag") != 0:
        raise RetrainError(
            "the champion to be tagged", "a failure, above", "Mend this and repeat: the next retraining cycle completes it."
        )
    repository.push()


def keep_reports(paths: Paths) -> None:
    """Copy the reports that say why out of the way of what puts the tree back."""
    paths.retrain.mkdir(parents=True, exist_ok=True)
    for report in (paths.report, paths.metrics):
        if report.is_file():
            shutil.copy(report, paths.retrain)


def _set_seed(paths: Paths, seed: int) -> None:
    """Write train.seed into params.yaml, and leave every other character of it as it is."""
    text = paths.params.read_text(encoding="utf-8")
    changed, count = re.subn(r"(?m)(^train:[^\n]*\n(?:[ #][^\n]*\n|\n)*?  seed: *)\d+", rf"\g<1>{seed}", text, count=1)
    if count != 1:
        raise RetrainError("train.seed in params.yaml, on a line of its own", "none", "Write it so, or set it there.")
    files.write_text(paths.params, changed)


@contextmanager
def _alone(paths: Paths) -> Iterator[None]:
    paths.retrain.mkdir(parents=True, exist_ok=True)
    lock = FileLock(paths.retrain_lock, timeout=0)
    try:
        with lock:
            yield
    except Timeout as error:
        raise RetrainError(
            "to be alone", "another retraining cycle running in this checkout", "Wait for it to end."
        ) from error


def stale(params: Params, paths: Paths) -> int:
    """Say when the last retraining cycle ended; exit code 1 when that is too long ago."""
    from pipeline.promotion import champions
    from pipeline.tracking import runs

    with runs.store_errors(paths):
        runs.connect(params, paths)
        last = champions.last_cycle(params.tracking.model)
    if last is None:
        console.echo("stale", "this store has no record of a retraining cycle: `make retrain`")
        return 1
    days = (datetime.now(UTC) - last.at).total_seconds() / 86400
    verdict = "ok" if days <= params.retrain.max_age_days else "stale"
    console.echo(
        verdict,
        f"the last retraining cycle ended {days:.1f} days ago, {last.outcome}; limit: {params.retrain.max_age_days:g} days",
    )
    return 0 if verdict == "ok" else 1


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    if options.stale:
        return stale(params, paths)
    repository = Repository(paths.root.absolute())
    if not repository.exists() or repository.branch() == "HEAD":
        raise RetrainError(
            "a git checkout with a branch checked out", "none", "Clone the repository, or `git switch` to a branch."
        )
    with _alone(paths):
        outcome, problem = None, None
        paths.promotion.unlink(missing_ok=True)
        try:
            outcome = cycle(options, repository, params, paths)
        except (RetrainError, RepositoryError) as error:
            problem = error
        finish(outcome, problem, params, paths)
    if problem:
        raise problem
    return 0


def finish(outcome: Outcome | None, problem: Exception | None, params: Params, paths: Paths) -> None:
    """Write the summary, for the job's page too, and note in the store that a cycle ended."""
    from pipeline.promotion import champions
    from pipeline.tracking import runs

    decision = files.read_json(paths.promotion) if paths.promotion.is_file() else None
    last, link = None, "none of this cycle"
    try:
        with runs.store_errors(paths):
            runs.connect(params, paths)
            last = champions.last_cycle(params.tracking.model)
            if outcome:
                champions.record_cycle(params.tracking.model, outcome.value)
            link = runs.run_link(decision["run_id"], paths) if decision else link
    except PipelineError:
        if problem is None:  # what went wrong before is what is to be told
            raise
    summary = retrain_report.summary(outcome, str(problem) if problem else None, decision, last, link)
    files.write_text(paths.retrain_summary, summary)
    if page := os.environ.get("GITHUB_STEP_SUMMARY"):
        with open(page, "a", encoding="utf-8") as file:
            file.write(summary)
    if outcome:
        console.echo("retrain", f"{retrain_report.MEANING[outcome]}; the report is {paths.retrain_summary}")


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
