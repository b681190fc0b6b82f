"""Promote the challenger to champion if it is good enough: move registry aliases and git tags.

Both models are scored again on the current test split. A refusal is a result, not an error.

Example:
    python -m pipeline.promote --check
    python -m pipeline.promote --history
"""

import argparse
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.core import console, files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.core.urls import redacted
from pipeline.data import datasets
from pipeline.data.datasets import Split
from pipeline.evaluation import metrics, scoring
from pipeline.inference import onnx_model
from pipeline.promotion import git_tags, rules
from pipeline.promotion.errors import NoChampionError
from pipeline.promotion.rules import Candidate, Decision
from pipeline.promotion.verify import Facts, gather, problems
from pipeline.tracking.errors import NoVersionError

if TYPE_CHECKING:
    from pipeline.tracking.registry import Version

REFUSED = 3  # exit code of --check


def assess(params: Params, paths: Paths, first: bool) -> "tuple[Version, Decision | None]":
    """The challenger and the decision on it; None where it is the champion already.

    Raises:
        NoVersionError: there is no challenger.
        NoChampionError: there is no champion, and nothing says that there should be none.
    """
    from pipeline.tracking import registry

    name = params.tracking.model
    challenger, champion = registry.aliased(name, registry.CHALLENGER), registry.aliased(name, registry.CHAMPION)
    if challenger is None:
        raise NoVersionError(name, registry.CHALLENGER, "`make repro` registers one.")
    if champion is None and not (first or never_had_one(name, paths)):
        raise NoChampionError(name, redacted(paths.tracking_uri))
    if champion and champion.onnx_sha256 == challenger.onnx_sha256:
        return challenger, None
    test = datasets.load(paths, "test")
    with TemporaryDirectory(prefix="promote-") as folder:
        candidate = score(challenger, Path(folder) / "challenger", test, params)
        rival = score(champion, Path(folder) / "champion", test, params) if champion else None
    withdrawn = registry.WITHDRAWN in challenger.tags
    return challenger, rules.decide(candidate, rival, withdrawn, params.promote)


def never_had_one(name: str, paths: Paths) -> bool:
    """Whether the store is the repository's own, on a person's machine, and has never had a champion.

    Anywhere else a store without a champion may be the wrong store, or a lost one.
    """
    from pipeline.promotion import champions

    local = paths.tracking_uri == f"sqlite:///{paths.database}"
    return local and os.environ.get("CI", "") in ("", "0", "false") and not champions.moves(name)


def score(version: "Version", folder: Path, test: Split, params: Params) -> Candidate:
    """Score the registered files of a version on the test split."""
    from pipeline.tracking import registry

    folder.mkdir()
    float32, int8 = registry.download(version, folder)
    classes = params.fetch.classes
    perturbed, bins = scoring.perturb(test.images, params.evaluate), params.evaluate.calibration_bins
    measured, probabilities = scoring.score(onnx_model.open_for(float32, test.images, classes), test, perturbed, bins)
    quantised = onnx_model.open_for(int8, test.images, classes).predict(test.images)
    measured["int8_agreement"] = metrics.agreement(probabilities, quantised)
    measured["bytes"] = float32.stat().st_size
    measured["latency_microseconds"] = scoring.latency(float32, test.images[0])["p50_microseconds"]
    correct = np.asarray(probabilities.argmax(axis=1) == test.labels)
    return Candidate(version.number, version.onnx_sha256, version.tags.get(registry.LINEAGE, ""), correct, measured)


def apply(version: "Version", decision: Decision, params: Params, paths: Paths) -> None:
    """Write and record the decision, and move the aliases if it says so."""
    from pipeline.promotion import champions

    content: dict[str, Any] = {
        **decision.record(),
        "run_id": version.run_id,
        "data_fingerprint": datasets.read_manifest(paths)["fingerprint"],
    }
    files.write_json(paths.promotion, content)
    champions.record_decision(version, content, paths.promotion)
    if decision.promote:
        champions.make_champion(version, decision.sentence)


def tag_champion(params: Params, paths: Paths) -> git_tags.TaggedVersion:
    """Give the champion of the registry its git tags, where it has none: a promotion that was cut short is completed."""
    from pipeline.tracking import registry

    champion, name = registry.champion(params.tracking.model), params.tracking.model
    with TemporaryDirectory(prefix="promote-") as folder:
        md5 = files.md5(registry.download(champion, Path(folder))[0])
    message = f"{name} version {champion.number}, SHA-256 {champion.onnx_sha256}, run {champion.run_id}"
    known = champion.tags.get(registry.GIT_TAG)
    if known in git_tags.versions(paths.root, name):  # else it was made in a checkout that never published it
        tagged = git_tags.champion(paths.root, name)
        if tagged is None or tagged.version != known:
            git_tags.assign_champion(paths.root, name, known, message)
        return git_tags.TaggedVersion(known, git_tags.versions(paths.root, name)[known])
    made = git_tags.tag_champion(paths.root, name, paths.onnx, md5, message)
    registry.tag(champion, registry.GIT_TAG, made.version)
    return made


def verify(params: Params, paths: Paths) -> int:
    """Print what does not agree about the champion; exit code 1 if anything."""
    from pipeline.tracking import runs

    with runs.store_errors(paths):
        runs.connect(params, paths)
        facts = gather(params, paths)
    found = problems(facts)
    for problem in found:
        console.echo("verify", f"champion, version {facts.version}: {problem}")
    if not found:
        console.echo("verify", f"version {facts.version} is champion, and alias, file, run and record agree; {_tag(facts)}")
    return 1 if found else 0


def history(params: Params, paths: Paths) -> int:
    """Print who was champion when, and why."""
    from pipeline.promotion import champions
    from pipeline.tracking import runs

    with runs.store_errors(paths):
        runs.connect(params, paths)
        moves = champions.moves(params.tracking.model)
    for move in moves:
        console.echo(move.at, f"version {move.champion} in place of {move.previous or 'none'}: {move.reason}")
    return 0


def _tag(facts: Facts) -> str:
    return f"so does git tag {facts.git_tag}" if facts.git_tag else "it has no git tag"


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    from pipeline.promotion import champions
    from pipeline.tracking import registry, runs  # MLflow takes seconds: after the parameters have proved right

    if options.verify or options.history:
        return (verify if options.verify else history)(params, paths)
    if options.require:
        params = params.model_copy(update={"promote": params.promote.model_copy(update={"require": options.require})})
    with runs.store_errors(paths):
        runs.connect(params, paths)
        champions.reconcile(params.tracking.model)
        version, decision = assess(params, paths, options.first)
        if decision:
            apply(version, decision, params, paths)
        elif record := champions.recorded_decision(registry.champion(params.tracking.model)):
            files.write_json(paths.promotion, record)  # it may have been made in another checkout
    _print(version, decision)
    if options.tag and (decision is None or decision.promote):
        with runs.store_errors(paths):
            made = tag_champion(params, paths)
        console.echo("tag", f"{params.tracking.model}@{made.version} is champion in git")
    return REFUSED if options.check and decision and not decision.promote else 0


def _print(version: "Version", decision: Decision | None) -> None:
    if decision is None:
        console.echo("promote", f"version {version.number} is the very file that is champion: nothing to decide")
        return
    for rule in decision.rules:
        console.echo("  met" if rule.met else "  broken", f"{rule.rule}: {rule.found}, expected {rule.bound}")
    console.echo("promote" if decision.promote else "refuse", decision.sentence)


if __name__ == "__main__":
    parser = console.parser("promote", __doc__)
    parser.add_argument(
        "--first", action="store_true", help="if there is no champion, promote a challenger that meets the minimum"
    )
    parser.add_argument("--require", choices=["non_inferior", "superior"], help="override promote.require")
    parser.add_argument("--check", action="store_true", help=f"exit with code {REFUSED} on a refusal")
    parser.add_argument("--tag", action="store_true", help="also tag the champion's commit in git, in GTO's format")
    parser.add_argument("--history", action="store_true", help="only list the champions, with dates and reasons")
    parser.add_argument("--verify", action="store_true", help="only check that alias, record, run, file and git tag agree")
    sys.exit(console.run_command(parser, run))
