"""The promotion rule, with candidates whose metrics and predictions are made up."""

from typing import Any

import numpy as np
import pytest

from pipeline.core import params
from pipeline.core.params import PromoteParams
from pipeline.promotion import rules
from pipeline.promotion.rules import Candidate, Decision
from tests.imports import ROOT

METRICS = {
    "accuracy": 0.99,
    "worst_recall": 0.98,
    "shifted_accuracy": 0.97,
    "int8_agreement": 0.999,
    "calibration_error": 0.003,
    "bytes": 800_000,
    "latency_microseconds": 20.0,
}


PROMOTE = params.load(ROOT / "params.yaml").promote


def rule(**changes: Any) -> PromoteParams:
    return PROMOTE.model_copy(update=changes)


def candidate(version: int, wrong: range, lineage: str = "") -> Candidate:
    """A version that misclassifies the images `wrong` of 1,000."""
    correct = np.ones(1000, bool)
    correct[list(wrong)] = False
    return Candidate(version, f"sha of {version}", lineage or f"lineage of {version}", correct, METRICS)


def decide(
    challenger: Candidate,
    champion: Candidate | None,
    metrics: dict[str, float] | None = None,
    withdrawn: bool = False,
    **changes: Any,
) -> Decision:
    challenger = challenger._replace(metrics=METRICS | (metrics or {}))
    return rules.decide(challenger, champion, withdrawn, rule(**changes))


def broken(decision: Decision) -> list[str]:
    return [rule.rule for rule in decision.rules if not rule.met]


def test_a_non_inferior_challenger_is_promoted_with_the_reason() -> None:
    decision = decide(candidate(2, range(10)), candidate(1, range(5, 17)))

    assert decision.promote
    assert decision.sentence == (
        "version 2 becomes champion: accuracy 99.00% on 1,000 test images, against 98.80% of version 1; "
        "exactly one of the two is right on 12 images: the new one on 7 (p = 0.774)."
    )


def test_an_inferior_challenger_is_refused_with_the_reason() -> None:
    decision = decide(candidate(2, range(20)), candidate(1, range(2)))

    assert not decision.promote
    assert broken(decision) == ["paired test"]
    assert decision.sentence.startswith(
        "version 2 is refused: paired test: expected not significantly worse than the champion"
    )


def test_a_model_without_an_int8_file_is_judged_by_the_other_rules() -> None:
    metrics = {name: value for name, value in METRICS.items() if name != "int8_agreement"}
    challenger = candidate(2, range(10))._replace(metrics=metrics)

    decision = rules.decide(challenger, candidate(1, range(10)), False, rule())

    assert decision.promote
    assert decision.rules[0] == ("int8_agreement", "no int8 file", "at least 0.995 where there is one", True, "")


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("accuracy", 0.9),
        ("worst_recall", 0.9),
        ("shifted_accuracy", 0.5),
        ("int8_agreement", 0.9),
        ("calibration_error", 0.1),
        ("bytes", 3_000_000),
        ("latency_microseconds", 5000.0),
    ],
)
@pytest.mark.parametrize("champion", [None, candidate(1, range(100))])
def test_each_minimum_and_maximum_alone_can_refuse(metric: str, value: float, champion: Candidate | None) -> None:
    decision = decide(candidate(2, range(10)), champion, {metric: value})

    assert not decision.promote
    assert broken(decision) == [metric]
    assert metric in decision.sentence


def test_a_metric_may_equal_its_bound() -> None:
    bounds = rule()

    assert decide(candidate(1, range(1)), None, {"accuracy": bounds.minimum.accuracy, "bytes": bounds.maximum.bytes}).promote


def test_a_first_champion_only_has_to_meet_the_bounds() -> None:
    decision = decide(candidate(1, range(10)), None)

    assert decision.promote
    assert decision.champion is None
    assert decision.comparison is None
    assert decision.sentence == "version 1 becomes champion: accuracy 99.00% on 1,000 test images, the first champion."


@pytest.mark.parametrize("require", ["non_inferior", "superior"])
def test_another_seed_of_the_same_lineage_must_be_superior(require: str) -> None:
    equal = decide(candidate(2, range(10), "the same"), candidate(1, range(10, 20), "the same"), require=require)
    superior = decide(candidate(2, range(1), "the same"), candidate(1, range(1, 20), "the same"), require=require)

    assert not equal.promote
    assert broken(equal) == ["paired test"]
    assert equal.require == "superior"
    assert superior.promote


def test_nothing_is_promoted_against_a_champion_that_fails_on_the_test_split() -> None:
    challenger, champion = candidate(2, range(10)), candidate(1, range(150))

    assert broken(decide(challenger, champion)) == ["accuracy of the champion"]
    assert broken(decide(challenger, None)) == []
    assert decide(challenger, champion, champion_accuracy=0.85).promote


def test_a_withdrawn_version_is_not_promoted_again() -> None:
    decision = decide(candidate(2, range(1)), candidate(1, range(20)), withdrawn=True)

    assert not decision.promote
    assert broken(decision) == ["withdrawn"]


def test_the_record_holds_each_rule_with_observed_value_and_bound() -> None:
    record = decide(candidate(2, range(10)), candidate(1, range(5, 17))).record()

    assert record["promote"] is True
    assert (record["challenger"], record["champion"]) == (2, 1)
    by_name = {entry["rule"]: entry for entry in record["rules"]}
    assert by_name["accuracy"] == {
        "rule": "accuracy",
        "observed": 0.99,
        "bound": "at least 0.98",
        "met": True,
        "parameter": "promote.minimum.accuracy",
    }
    assert by_name["bytes"]["bound"] == "at most 2,000,000"
    assert by_name.keys() == METRICS.keys() | {"accuracy of the champion", "paired test"}
    assert record["comparison"]["only_challenger"] == 7
    assert record["champion_figures"] == METRICS


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"accuracy": 0.9}, "accuracy: expected at least 0.98, found 0.9 (promote.minimum.accuracy)"),
        ({"bytes": 3_000_000}, "bytes: expected at most 2,000,000, found 3,000,000 (promote.maximum.bytes)"),
    ],
)
def test_a_refusal_names_the_parameter_of_each_broken_rule(changes: dict[str, float], named: str) -> None:
    challenger = candidate(2, range(10))._replace(metrics=METRICS | changes)

    assert named in rules.decide(challenger, None, False, rule()).sentence


def test_a_refusal_that_no_parameter_governs_says_so() -> None:
    sentence = rules.decide(candidate(2, range(10)), None, True, rule()).sentence

    assert "withdrawn: expected never rolled back, found rolled back once (no parameter sets this)" in sentence
