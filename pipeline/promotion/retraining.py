"""The steps of a retraining cycle, each of which skips what is already done."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from filelock import FileLock, Timeout

from pipeline.core import files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.promotion import dvc_state, git_tags, retrain_report
from pipeline.promotion.errors import RetrainError
from pipeline.promotion.repository import Repository
from pipeline.promotion.retrain_report import Outcome
from pipeline.promotion.rules import REFUSED_EXIT_CODE


@contextmanager
def exclusive(paths: Paths) -> Iterator[None]:
    """Allow one retraining cycle at a time in this checkout."""
    paths.retrain.mkdir(parents=True, exist_ok=True)
    lock = FileLock(paths.retrain_lock, timeout=0)
    try:
        with lock:
            yield
    except Timeout as error:
        found = "another retraining cycle running"
        raise RetrainError("no other cycle in this checkout", found, "Wait until it ends.") from error


def check_clean(repository: Repository, written: list[str]) -> None:
    """Refuse a checkout with changes outside the files `written` by a cycle, or with a running DVC command."""
    if foreign := [file for file in repository.changed() if file not in written]:
        raise RetrainError("a checkout without changes", ", ".join(foreign), "Commit or stash them.")
    if running := dvc_state.running_command(repository):
        raise RetrainError("no other DVC command running in this checkout", running, "Wait until it ends.")


def set_seed(paths: Paths, seed: int) -> None:
    """Set train.seed in params.yaml, and keep every other character of the file."""
    text = paths.params.read_text(encoding="utf-8")
    changed, count = re.subn(r"(?m)(^train:[^\n]*\n(?:[ #][^\n]*\n|\n)*?  seed: *)\d+", rf"\g<1>{seed}", text, count=1)
    if count != 1:
        raise RetrainError("train.seed in params.yaml, on a line of its own", "none", "Add that line, or run without --seed.")
    files.write_text(paths.params, changed)


def rebuild(repository: Repository) -> None:
    """Fetch again, because DVC does not notice changed sources, then run the stages that this affects.

    With a DVC remote, stages that ran on the same inputs elsewhere, such as in an interrupted cycle, are restored from it.
    """
    pull = ["--pull"] if repository.has_dvc_remote() else []
    for command in (["repro", "--force", "--single-item", "fetch"], ["repro", *pull]):
        if repository.run_module("dvc", *command) != 0:
            raise RetrainError("every stage to succeed", "one that failed, see above", "Fix the data or the code.")


def decide(repository: Repository, first: bool, require: str | None) -> Outcome:
    """Promote or refuse the challenger."""
    options = [*(["--first"] if first else []), *(["--require", require] if require else [])]
    code = repository.run_module("pipeline.promote", "--check", *options)
    if code not in (0, REFUSED_EXIT_CODE):
        raise RetrainError("a decision on the challenger", "none, see above", "Fix this and rerun.")
    return Outcome.REFUSED if code == REFUSED_EXIT_CODE else Outcome.PROMOTED


def discard(repository: Repository, written: list[str], paths: Paths) -> None:
    """Copy the reports that explain the result to data/retrain/, then restore the last commit."""
    paths.retrain.mkdir(parents=True, exist_ok=True)
    for report in (paths.report, paths.metrics):
        if report.is_file():
            shutil.copy(report, paths.retrain)
    repository.restore(written)


def is_champion(params: Params, paths: Paths) -> bool:
    """Whether the store has the model of this tree as champion, with its files and its run."""
    from pipeline.promotion import state  # imports MLflow, which takes seconds
    from pipeline.tracking.connection import connected

    with connected(params, paths):
        return state.gather(params, paths).in_tree


def is_published(repository: Repository, params: Params, paths: Paths) -> bool:
    """Whether the exported model is the champion by git tag, and the remote branch holds its commit."""
    tagged = git_tags.champion(paths.root, params.tracking.model)
    md5 = tagged and git_tags.locked_md5(paths.root, tagged.commit, paths.onnx)
    return md5 is not None and md5 == files.md5(paths.onnx) and not repository.ahead()


def publish(repository: Repository, written: list[str], params: Params, paths: Paths) -> None:
    """Commit the files of the cycle, tag the commit as the champion, and push outputs, branch and tags."""
    if changed := repository.changed(written):
        message = retrain_report.message(files.read_json(paths.promotion), params.tracking.model)
        repository.git("add", "--", *changed)
        repository.git("commit", "--quiet", "--message", message)
    if repository.run_module("pipeline.promote", "--tag") != 0:
        todo = "Fix this and rerun; the next retraining cycle completes this one."
        raise RetrainError("a git tag for the champion", "an error, see above", todo)
    repository.push()


def record(outcome: Outcome | None, params: Params) -> Any:
    """Record in the store that a cycle ended; return the cycle before it, or None."""
    from pipeline.promotion import champions  # imports MLflow, which takes seconds

    previous = champions.last_cycle(params.tracking.model)
    if outcome:
        champions.record_cycle(params.tracking.model, outcome.value)
    return previous
