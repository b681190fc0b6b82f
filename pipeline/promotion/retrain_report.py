"""The result of a retraining cycle, as a commit message and as a page for people."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

Decision = Mapping[str, Any]  # data/promotion.json


class Outcome(StrEnum):
    """How a retraining cycle ended that did not fail."""

    NOTHING_NEW = "nothing new"
    PROMOTED = "promoted"
    REFUSED = "refused"


MEANING = {
    Outcome.NOTHING_NEW: "nothing new: the champion is made from this data, code and parameters",
    Outcome.PROMOTED: "the challenger is champion, and published",
    Outcome.REFUSED: "the challenger was refused, and the branch is as it was",
}


def message(decision: Decision, model: str) -> str:
    """The message of the commit that holds a new champion. It asks CI not to start: the cycle has checked what it commits."""
    subject = f"Make version {decision['challenger']} of {model} champion"
    return "\n".join([subject, "", decision["sentence"], "", *_lines(decision), "", "[skip ci]"])


def _lines(decision: Decision) -> list[str]:
    return [f"{rule['rule']}: {_shown(rule['observed'])}, expected {rule['bound']}" for rule in decision["rules"]]


def summary(outcome: Outcome | None, problem: str | None, decision: Decision | None, last: Any, link: str) -> str:
    """The retraining cycle on a page of Markdown.

    Args:
        outcome: None if the cycle failed with `problem`.
        last: the cycle before this one, with `at` and `outcome`; None where none is known.
        link: where the run with its pictures is to be seen.
    """
    head = {Outcome.PROMOTED: "✅ Promoted", Outcome.REFUSED: "⛔ Refused", Outcome.NOTHING_NEW: "💤 Nothing new"}
    parts = [f"# {head[outcome] if outcome else '❌ Failed'}", ""]
    if problem:
        parts += ["```", problem, "```", ""]
    if decision:
        parts += [decision["sentence"], "", *_table(decision), ""]
    parts += [f"Run, curves and pictures: {link}", ""]
    parts.append(
        f"Previous retraining cycle: {last.at.isoformat()}, {last.outcome}" if last else "This is the first retraining cycle."
    )
    return "\n".join(parts) + "\n"


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
