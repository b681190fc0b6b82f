"""Promote the model of this tree to champion if it is good enough: move aliases and git tags.

Both models are scored again on the current test split. A refusal is a result, not an error.

Example:
    python -m pipeline.promote --check
    python -m pipeline.promote --history
"""

import argparse
import sys
from typing import TYPE_CHECKING

from pipeline.core import console
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.promotion.publishing import Publisher
from pipeline.promotion.rules import REFUSED_EXIT_CODE

if TYPE_CHECKING:
    from pipeline.promotion.assessment import Assessment


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    if options.verify:
        return print_problems(params, paths)
    if options.history:
        return print_history(params, paths)
    if options.require:
        params = params.model_copy(update={"promote": params.promote.model_copy(update={"require": options.require})})
    publisher = Publisher(paths, params.tracking.model)
    if options.tag:
        publisher.prepare()
    assessment = decide(options.first, params, paths)
    print_decision(assessment)
    if assessment.refused:
        without_champion = assessment.decision is not None and assessment.decision.champion is None
        return REFUSED_EXIT_CODE if options.check or without_champion else 0
    if options.tag:
        tag_champion(publisher, params, paths)
    return 0


def decide(first: bool, params: Params, paths: Paths) -> "Assessment":
    """Decide on the model of this tree, and carry out and record the decision."""
    from pipeline.promotion import assessment  # MLflow takes seconds to import: only with valid parameters
    from pipeline.tracking.connection import connected

    paths.promotion.unlink(missing_ok=True)  # the last decision, which is not true of this model
    with connected(params, paths):
        found = assessment.assess(params, paths, first)
        if found.decision:
            assessment.apply(found, paths)
        else:
            assessment.restore_record(found.version, paths)
    return found


def print_decision(assessment: "Assessment") -> None:
    for step in assessment.steps:
        console.echo("restore", step)
    decision = assessment.decision
    if decision is None:
        console.echo("promote", f"version {assessment.version.number} is already champion")
        return
    for rule in decision.rules:
        console.echo("  met" if rule.met else "  broken", f"{rule.rule}: {rule.shown}, expected {rule.bound}")
    console.echo("promote" if decision.promote else "refuse", decision.sentence)


def tag_champion(publisher: Publisher, params: Params, paths: Paths) -> None:
    """Tag the champion in git, and say how to publish the tags."""
    from pipeline.promotion import champion_tag
    from pipeline.tracking.connection import store_errors

    with store_errors(paths):
        tagged = champion_tag.tag_champion(params, paths)
    console.echo("tag", f"{params.tracking.model}@{tagged.version} is champion in git")
    if command := publisher.todo():
        console.echo("tag", f"not at the remote yet: `{command}`")


def print_problems(params: Params, paths: Paths) -> int:
    """Print what is missing of the champion, or disagrees about it; return exit code 1 if anything does."""
    from pipeline.promotion import state
    from pipeline.tracking.connection import connected

    with connected(params, paths):
        facts = state.with_git(state.gather(params, paths), paths)
    problems = state.problems(facts)
    for problem in problems:
        console.echo("verify", f"{problem.found}: {problem.todo}")
    if facts.champion and not problems:
        tag = f"so does git tag {facts.git.tag}" if facts.git and facts.git.tag else "it has no git tag"
        number = facts.champion.version.number
        console.echo("verify", f"version {number} is champion, and alias, file, run and record agree; {tag}")
    return 1 if problems else 0


def print_history(params: Params, paths: Paths) -> int:
    """Print who was champion when, and why."""
    from pipeline.promotion import champions
    from pipeline.tracking.connection import connected

    with connected(params, paths):
        moves = champions.moves(params.tracking.model)
    for move in moves:
        console.echo(move.at, f"version {move.champion} in place of {move.previous or 'none'}: {move.reason}")
    return 0


if __name__ == "__main__":
    parser = console.parser("promote", __doc__)
    parser.add_argument(
        "--first", action="store_true", help="if there is no champion, promote a challenger that meets the minimum"
    )
    parser.add_argument("--require", choices=["non_inferior", "superior"], help="override promote.require")
    parser.add_argument("--check", action="store_true", help=f"exit with code {REFUSED_EXIT_CODE} on a refusal")
    parser.add_argument("--tag", action="store_true", help="also tag the champion's commit in git, in GTO's format")
    parser.add_argument("--history", action="store_true", help="only list the champions, with dates and reasons")
    parser.add_argument("--verify", action="store_true", help="only check that alias, record, run, file and git tag agree")
    sys.exit(console.run_command(parser, run))
