"""Score the model of this tree and the champion on the current test split, decide, and carry out the decision."""

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from pipeline.core import files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.core.urls import redacted
from pipeline.data import datasets
from pipeline.data.datasets import Split
from pipeline.evaluation import evaluator, metrics, perturbations
from pipeline.inference import onnx_model
from pipeline.promotion import champions, rules, state
from pipeline.promotion.errors import ChampionChangedError, NoChampionError
from pipeline.promotion.rules import Candidate, Decision
from pipeline.promotion.state import Facts
from pipeline.tracking import registration, registry
from pipeline.tracking.registry import Version

_CHECK_STORE = "Check MLFLOW_TRACKING_URI. If there has never been a champion, run `make promote FIRST=1`"


class Assessment(NamedTuple):
    """The decision on the model of this tree, and what it was based on."""

    version: Version
    decision: Decision | None  # None: it is champion already
    replaced: Version | None  # the champion at that time
    steps: list[str]  # what had to be restored first, a line each

    @property
    def refused(self) -> bool:
        return self.decision is not None and not self.decision.promote


def assess(params: Params, paths: Paths, first: bool) -> Assessment:
    """Decide on the model of this tree. This registers it, and restores the champion's alias and record, where needed.

    Args:
        first: accept a store without a champion that can be served.

    Raises:
        UnregisteredTreeError: the store lacks the model, and the files of the tree do not belong together.
        NoChampionError: there is no champion that can be served; the store may be the wrong one.
    """
    name = params.tracking.model
    challenger = registration.ensure(params, paths)
    facts, steps = state.settle(params, paths)
    champion = facts.champion.version if facts.champion else None
    if champion and champion.hashes == challenger.hashes:
        return Assessment(champion, None, champion, steps)
    if not (facts.servable or first or _never_had_champion(facts, paths)):
        uri, (problem, *_) = redacted(paths.tracking_uri), state.problems(facts)
        if facts.recorded is None and champion is None:
            problem = state.Problem("none. It may be the wrong store, or a lost one", _CHECK_STORE)
        raise NoChampionError(name, uri, *problem)
    test, recent = datasets.load(paths, "test"), recent_slice(params, paths)
    rival = score(champion, test, params, recent) if champion and facts.servable else None
    # Where no champion can be served, --first accepts any model that meets the bounds; otherwise there might never be one.
    withdrawn = facts.servable and registry.tag_of_model(challenger, registry.WITHDRAWN) is not None
    decision = rules.decide(score(challenger, test, params, recent), rival, withdrawn, params.promote)
    return Assessment(challenger, decision, champion, steps)


def _never_had_champion(facts: Facts, paths: Paths) -> bool:
    """Whether this is the checkout's own store, outside CI, and has never had a champion.

    Anywhere else a store without a champion may be the wrong store, or a lost one.
    """
    local = paths.tracking_uri == f"sqlite:///{paths.database}"
    return local and os.environ.get("CI", "") in ("", "0", "false") and not (facts.recorded or facts.champion)


def recent_slice(params: Params, paths: Paths) -> dict[str, Split]:
    """The newest recent images together: single sets would be tested twice, and are too small to tell models apart."""
    found = datasets.recent_slices(paths, params.evaluate.recent_sets)
    return {name: split for name, split in found.items() if name == datasets.RECENT}


def score(version: Version, test: Split, params: Params, recent: Mapping[str, Split] | None = None) -> Candidate:
    """Score the registered files of a version on the test split and on recent slices."""
    with TemporaryDirectory(prefix="promote-") as folder:
        float32, int8 = registry.download(version, Path(folder))
        model = onnx_model.open_for(float32, test.images, params.fetch.classes)
        perturbed = perturbations.perturb(test.images, params.evaluate)
        measured, probabilities = evaluator.evaluate(model, test, perturbed, params.evaluate.calibration_bins)
        if int8 is not None:
            quantised = onnx_model.open_for(int8, test.images, params.fetch.classes).predict(test.images)
            measured["int8_agreement"] = metrics.agreement(probabilities, quantised)
        slices = {
            name: np.asarray(model.predict(split.images).argmax(axis=1) == split.labels)
            for name, split in (recent or {}).items()
        }
        measured["bytes"] = float32.stat().st_size
        measured["latency_microseconds"] = evaluator.latency(float32, test.images[0])["p50_microseconds"]
    correct = np.asarray(probabilities.argmax(axis=1) == test.labels)
    lineage = version.tags.get(registry.LINEAGE, "")
    return Candidate(version.number, version.hashes.onnx, lineage, correct, measured, slices)


def apply(assessment: Assessment, paths: Paths) -> None:
    """Carry out the decision and record it. data/promotion.json says what has happened, so it is written last.

    Raises:
        ChampionChangedError: another champion was made since the assessment.
    """
    version, decision = assessment.version, assessment.decision
    if decision is None:
        return
    record: dict[str, Any] = {
        **decision.record(),
        "run_id": version.run_id,
        "data_fingerprint": datasets.read_manifest(paths)["fingerprint"],
    }
    if decision.promote:
        _check_unchanged(assessment)
    champions.log_decision(version, record)
    if decision.promote:
        champions.make_champion(version, decision.sentence)
        registry.untag_model(version, registry.WITHDRAWN)
    champions.remove_challenger(version)
    champions.tag_decision(version, record)
    files.write_json(paths.promotion, record)


def _check_unchanged(assessment: Assessment) -> None:
    name, replaced = assessment.version.name, assessment.replaced
    found = registry.aliased(name, registry.CHAMPION)
    expected, number = replaced and replaced.number, found and found.number
    if number != expected:
        raise ChampionChangedError(name, expected, number)


def restore_record(champion: Version, paths: Paths) -> None:
    """Write the decision on the champion to data/promotion.json again, because another checkout may have made it."""
    record = champions.recorded_decision(champion) or {
        "promote": True,
        "challenger": champion.number,
        "champion": None,
        "require": "",
        "rules": [],
        "comparison": None,
        "champion_figures": {},
        "slices": {},
        "sentence": champions.moves(champion.name)[-1].reason,
        "run_id": champion.run_id,
        "data_fingerprint": datasets.read_manifest(paths)["fingerprint"],
    }
    files.write_json(paths.promotion, record)
