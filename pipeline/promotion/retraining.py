"""The steps of a retraining cycle, each of which skips what is already done."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from filelock import FileLock, Timeout

from pipeline.core import console, files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.promotion import dvc_remote, dvc_state, retrain_report
from pipeline.promotion.errors import RetrainError
from pipeline.promotion.publishing import Publisher
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


def prepare(publisher: Publisher, written: list[str]) -> None:
    """Get what is at the remote, and refuse what this checkout could not publish.

    Raises:
        UpstreamError: the branch has no upstream, although there are remotes, or lacks commits of it.
        DvcRemoteError: no clone could find the outputs, or credentials stand beside an address that is not committed.
    """
    for tag in publisher.prepare():
        console.echo("tag", f"{tag} names the commit of its model again, after a rebase")
    if publisher.upstream:
        publisher.upstream.check_current(publisher.refs, written)
    if publisher.repository.changed([dvc_remote.CONFIG]):
        dvc_remote.check_public(publisher.root)


def get_outputs(repository: Repository) -> None:
    """Pull from the DVC remote, if there is one. Commit an address that `make remote` recorded once outputs are kept there."""
    remote = dvc_remote.address(repository.root)
    if remote:
        repository.dvc("pull", "--force", "--run-cache", "--allow-missing")  # outputs of a stage run by hand give way
    if changed := repository.changed([dvc_remote.CONFIG]):
        if remote:
            repository.dvc("push", "--run-cache")  # a pull that needs nothing succeeds, even where there is no bucket
        repository.commit(changed, "Record the address of the DVC remote\n\n[skip ci]")


def set_seed(paths: Paths, seed: int) -> None:
    """Set train.seed in params.yaml, and keep every other byte of the file, such as its line ends."""
    text = paths.params.read_bytes().decode("utf-8")
    pattern = r"(?m)(^train:[^\n]*\n(?:[ #][^\n]*\n|\r?\n)*?  seed: *)\d+"
    changed, count = re.subn(pattern, rf"\g<1>{seed}", text, count=1)
    if count != 1:
        raise RetrainError("train.seed in params.yaml, on a line of its own", "none", "Add that line, or run without --seed.")
    files.write_text(paths.params, changed)


def rebuild(repository: Repository) -> None:
    """Fetch again, because DVC does not notice changed sources, then run the stages that this affects.

    With a DVC remote, stages that ran on the same inputs elsewhere, such as in an interrupted cycle, are restored from it.
    """
    pull = ["--pull"] if dvc_remote.address(repository.root) else []
    for command in (["repro", "--force", "--single-item", "fetch"], ["repro", *pull]):
        code, reason = repository.run_module("dvc", *command)
        if code != 0:
            raise RetrainError("every stage to succeed", reason, "Fix the data or the code.")


def decide(repository: Repository, first: bool, require: str | None) -> Outcome:
    """Promote or refuse the challenger."""
    options = [*(["--first"] if first else []), *(["--require", require] if require else [])]
    code, reason = repository.run_module("pipeline.promote", "--check", *options)
    if code not in (0, REFUSED_EXIT_CODE):
        raise RetrainError("a decision on the challenger", reason, "Fix this and rerun.")
    return Outcome.REFUSED if code == REFUSED_EXIT_CODE else Outcome.PROMOTED


def discard(repository: Repository, written: list[str], paths: Paths) -> None:
    """Copy the reports that explain the result to data/retrain/, then restore the last commit."""
    paths.retrain.mkdir(parents=True, exist_ok=True)
    for report in (paths.report, paths.report_page, paths.metrics):
        if report.is_file():
            shutil.copy(report, paths.retrain)
    repository.restore(written)


def check_champion(params: Params, paths: Paths) -> None:
    """Check after a refusal that everything still names one champion.

    Raises:
        RetrainError: something is missing, or disagrees.
    """
    from pipeline.promotion import state  # imports MLflow, which takes seconds
    from pipeline.tracking.connection import connected

    with connected(params, paths):
        problems = state.problems(state.with_git(state.gather(params, paths), paths))
    if problems:
        found, todo = problems[0]
        raise RetrainError("store, git tags and remote to have one champion after the refusal", found, f"{todo}.")


def publish(publisher: Publisher, written: list[str], params: Params, paths: Paths) -> Outcome:
    """Commit the files of the cycle, tag the commit as the champion, and push outputs, branch and tags."""
    from pipeline.promotion import champion_tag  # imports MLflow, which takes seconds
    from pipeline.tracking.connection import connected

    if changed := publisher.repository.changed(written):
        message = retrain_report.message(files.read_json(paths.promotion), params.tracking.model)
        publisher.repository.commit(changed, message)
    with connected(params, paths):
        tagged = champion_tag.tag_champion(params, paths)
    console.echo("tag", f"{params.tracking.model}@{tagged.version} is champion in git")
    publisher.publish(tagged.md5)
    return Outcome.PROMOTED if publisher.upstream else Outcome.LOCAL


def is_champion(params: Params, paths: Paths) -> bool:
    """Whether the store has the model of this tree as champion, with its files and its run."""
    from pipeline.promotion import state  # imports MLflow, which takes seconds
    from pipeline.tracking.connection import connected

    with connected(params, paths):
        return state.gather(params, paths).in_tree


def is_done(publisher: Publisher, written: list[str], params: Params, paths: Paths) -> bool:
    """Whether nothing changed, and the exported model is the champion of the registry, of the git tags and at the remote."""
    unchanged = not publisher.repository.changed(written)
    return unchanged and publisher.is_published(files.md5(paths.onnx)) and is_champion(params, paths)


def record(outcome: Outcome | None, params: Params) -> Any:
    """Record in the store that a cycle ended; return the cycle before it, or None."""
    from pipeline.promotion import champions  # imports MLflow, which takes seconds

    previous = champions.last_cycle(params.tracking.model)
    if outcome:
        champions.record_cycle(params.tracking.model, outcome.value)
    return previous
