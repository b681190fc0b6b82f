"""The result of a retraining cycle, as a commit message and as a page for people."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pipeline.core import files
from pipeline.core.paths import Paths
from pipeline.promotion import github_job

Decision = Mapping[str, Any]  # data/promotion.json


class Outcome(StrEnum):
    """How a retraining cycle ended that did not fail."""

    NOTHING_NEW = "nothing new"
    PROMOTED = "promoted"
    LOCAL = "promoted, not pushed"
    REFUSED = "refused"


MEANING = {
    Outcome.NOTHING_NEW: "nothing new: the champion is made from this data, code and parameters",
    Outcome.PROMOTED: "the challenger is champion, and the remote answers with it",
    Outcome.LOCAL: "the challenger is champion, committed and tagged here; there is no remote to publish it to",
    Outcome.REFUSED: "the challenger was refused; the branch is unchanged",
}

_HEADINGS = {
    Outcome.PROMOTED: "✅ Promoted",
    Outcome.LOCAL: "✅ Promoted here; there is no remote",
    Outcome.REFUSED: "⛔ Refused",
    Outcome.NOTHING_NEW: "💤 Nothing new",
}


def message(decision: Decision, model: str) -> str:
    """The message of the commit that publishes a champion. It asks CI to skip the commit, which the cycle has checked."""
    subject = f"Make version {decision['challenger']} of {model} champion"
    rules = [f"{rule['rule']}: {_shown(rule['observed'])}, expected {rule['bound']}" for rule in decision["rules"]]
    return "\n".join([subject, "", decision["sentence"], "", *rules, "", "[skip ci]"])


def summary(outcome: Outcome | None, problem: str | None, decision: Decision | None, last: Any, link: str) -> str:
    """A page of Markdown about the retraining cycle.

    Args:
        outcome: None if the cycle failed with `problem`.
        last: the cycle before this one, with `at` and `outcome`; None if none is recorded.
        link: the address of the MLflow run, or how to open it.
    """
    lines = [f"# {_HEADINGS[outcome] if outcome else '❌ Failed'}", ""]
    if problem:
        lines += ["```", problem, "```", ""]
    if decision:
        lines += [decision["sentence"], "", *_table(decision), ""]
    before = f"Previous retraining cycle: {last.at.isoformat()}, {last.outcome}" if last else "This is the first retraining."
    lines += [f"MLflow run: {link}", "", before]
    return "\n".join(lines) + "\n"


def write(text: str, paths: Paths) -> None:
    """Write the summary to data/retrain/, and append it to the job's page on GitHub."""
    files.write_text(paths.retrain_summary, text)
    github_job.show(text)


def tell_job(outcome: Outcome | None, last: Any) -> None:
    """Tell later jobs on GitHub whether two cycles in a row refused their challenger: output `refused_twice`.

    Args:
        last: the cycle before this one, with `outcome`; None if none is recorded.
    """
    twice = outcome is Outcome.REFUSED and last is not None and last.outcome == Outcome.REFUSED
    github_job.output("refused_twice", str(twice).lower())


def _table(decision: Decision) -> list[str]:
    champion = "no champion" if decision["champion"] is None else f"champion, version {decision['champion']}"
    rows = [
        f"| {'✅' if rule['met'] else '⛔'} {rule['rule']} | {_shown(rule['observed'])} | {rule['bound']} "
        f"| {_shown(decision['champion_figures'].get(rule['rule'], ''))} |"
        for rule in decision["rules"]
    ]
    return [f"| | challenger, version {decision['challenger']} | expected | {champion} |", "|---|---|---|---|", *rows]


def _shown(observed: Any) -> str:
    return observed if isinstance(observed, str) else f"{observed:.6g}"
