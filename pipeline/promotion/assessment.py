"""Score champion and challenger on the current test split, apply the promotion rule, and record the decision."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from pipeline.core import files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.core.urls import redacted
from pipeline.data import datasets
from pipeline.data.datasets import Split
from pipeline.evaluation import evaluator, metrics, perturbations
from pipeline.inference import onnx_model
from pipeline.promotion import champions, rules
from pipeline.promotion.errors import NoChampionError
from pipeline.promotion.rules import Candidate, Decision
from pipeline.tracking import registry
from pipeline.tracking.errors import NoVersionError
from pipeline.tracking.registry import Version


def assess(params: Params, paths: Paths, first: bool) -> tuple[Version, Decision | None]:
    """Return the challenger and the decision on it; the decision is None if it is the champion already.

    Args:
        first: accept a store without a champion.

    Raises:
        NoVersionError: there is no challenger.
        NoChampionError: there is no champion, and the store may be the wrong one.
    """
    name = params.tracking.model
    challenger, champion = registry.aliased(name, registry.CHALLENGER), registry.aliased(name, registry.CHAMPION)
    if challenger is None:
        raise NoVersionError(name, registry.CHALLENGER, "`make repro` registers one.")
    if champion is None and not (first or _never_had_champion(name, paths)):
        raise NoChampionError(name, redacted(paths.tracking_uri))
    if champion and champion.onnx_sha256 == challenger.onnx_sha256:
        return challenger, None
    test = datasets.load(paths, "test")
    candidate = score(challenger, test, params)
    rival = score(champion, test, params) if champion else None
    return challenger, rules.decide(candidate, rival, registry.WITHDRAWN in challenger.tags, params.promote)


def _never_had_champion(name: str, paths: Paths) -> bool:
    """Whether this is the checkout's own store, outside CI, and has never had a champion.

    Anywhere else a store without a champion may be the wrong store, or a lost one.
    """
    local = paths.tracking_uri == f"sqlite:///{paths.database}"
    return local and os.environ.get("CI", "") in ("", "0", "false") and not champions.moves(name)


def score(version: Version, test: Split, params: Params) -> Candidate:
    """Score the registered files of a version on the test split."""
    with TemporaryDirectory(prefix="promote-") as folder:
        float32, int8 = registry.download(version, Path(folder))
        model = onnx_model.open_for(float32, test.images, params.fetch.classes)
        perturbed = perturbations.perturb(test.images, params.evaluate)
        measured, probabilities = evaluator.evaluate(model, test, perturbed, params.evaluate.calibration_bins)
        quantised = onnx_model.open_for(int8, test.images, params.fetch.classes).predict(test.images)
        measured["int8_agreement"] = metrics.agreement(probabilities, quantised)
        measured["bytes"] = float32.stat().st_size
        measured["latency_microseconds"] = evaluator.latency(float32, test.images[0])["p50_microseconds"]
    correct = np.asarray(probabilities.argmax(axis=1) == test.labels)
    return Candidate(version.number, version.onnx_sha256, version.tags.get(registry.LINEAGE, ""), correct, measured)


def apply(version: Version, decision: Decision, paths: Paths) -> None:
    """Write and record the decision; if it says so, make `version` the champion."""
    content: dict[str, Any] = {
        **decision.record(),
        "run_id": version.run_id,
        "data_fingerprint": datasets.read_manifest(paths)["fingerprint"],
    }
    files.write_json(paths.promotion, content)
    champions.record_decision(version, content, paths.promotion)
    if decision.promote:
        champions.make_champion(version, decision.sentence)


def restore_record(params: Params, paths: Paths) -> None:
    """Write the recorded decision on the champion to data/promotion.json, because another checkout may have made it."""
    if record := champions.recorded_decision(registry.champion(params.tracking.model)):
        files.write_json(paths.promotion, record)
