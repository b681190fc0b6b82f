"""The promotion rule: may the challenger take the champion's place? Pure: metrics in, a decision with its reasons out."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pipeline.core.params import PromoteParams
from pipeline.promotion.mcnemar import Correct, McNemar, exact_test, passes

Metrics = Mapping[str, float]


class Candidate(NamedTuple):
    """A version of the registered model, as scored on the current test split."""

    version: int
    onnx_sha256: str
    lineage: str  # what it was made from, but for the seed: pipeline.tracking.lineage
    correct: Correct  # (n,) bool: whether it predicts the label of each test image
    metrics: Metrics  # named as in `promote.minimum` and `promote.maximum`, as far as they are known


class Rule(NamedTuple):
    """One condition of a promotion: what was found, and what had to be."""

    rule: str
    observed: float | str
    bound: str
    met: bool

    @property
    def found(self) -> str:
        return _shown(self.observed)


class Decision(NamedTuple):
    """Promote or refuse, and why."""

    promote: bool
    challenger: int
    champion: int | None
    require: str
    rules: tuple[Rule, ...]
    comparison: McNemar | None
    champion_metrics: Metrics
    sentence: str

    def record(self) -> dict[str, Any]:
        """The content of data/promotion.json."""
        content = self._asdict()
        content["rules"] = [rule._asdict() for rule in self.rules]
        content["comparison"] = self.comparison and self.comparison._asdict()
        content["champion_figures"] = content.pop("champion_metrics")  # the key in records of earlier versions
        return content


def decide(challenger: Candidate, champion: Candidate | None, withdrawn: bool, params: PromoteParams) -> Decision:
    """Decide on the challenger, of which every figure that `params` bounds is known.

    Without a champion only the minimum and maximum count. A challenger of the champion's own lineage has to be significantly
    better whatever `params.require` says: it differs by its seed alone, and promoting those would promote noise.

    Args:
        withdrawn: whether a rollback took this version back once.
    """
    rules = _bounds(challenger.metrics, params)
    comparison, require = None, params.require
    if withdrawn:
        rules.append(Rule("withdrawn", "rolled back once", "never rolled back", met=False))
    if champion is not None:
        if champion.lineage == challenger.lineage:
            require = "superior"
        rules.append(_comparable(champion, params.champion_accuracy))
        comparison = exact_test(challenger.correct, champion.correct)
        rules.append(_paired(comparison, require, params.alpha))
    promote = all(rule.met for rule in rules)
    sentence = _sentence(promote, challenger, champion, rules, comparison)
    return Decision(
        promote,
        challenger.version,
        champion.version if champion else None,
        require,
        tuple(rules),
        comparison,
        dict(champion.metrics) if champion else {},
        sentence,
    )


def _bounds(metrics: Metrics, params: PromoteParams) -> list[Rule]:
    minimum = [
        Rule(name, metrics[name], f"at least {_shown(bound)}", metrics[name] >= bound)
        for name, bound in params.minimum.model_dump().items()
    ]
    maximum = [
        Rule(name, metrics[name], f"at most {_shown(bound)}", metrics[name] <= bound)
        for name, bound in params.maximum.model_dump().items()
    ]
    return minimum + maximum


def _comparable(champion: Candidate, bound: float) -> Rule:
    """Labels that all mean something else, in both splits, please a challenger that learned them: the champion tells."""
    accuracy = float(champion.correct.mean())
    return Rule("accuracy of the champion", accuracy, f"at least {_shown(bound)}", accuracy >= bound)


def _paired(comparison: McNemar, require: str, alpha: float) -> Rule:
    bound = {"non_inferior": "not significantly worse than the champion", "superior": "significantly better than the champion"}
    observed = f"{comparison.only_challenger} images won and {comparison.only_champion} lost, p = {comparison.p_value:.3g}"
    return Rule("paired test", observed, f"{bound[require]} (alpha {alpha:g})", passes(comparison, require, alpha))


def _sentence(
    promote: bool, challenger: Candidate, champion: Candidate | None, rules: list[Rule], comparison: McNemar | None
) -> str:
    subject = f"version {challenger.version}"
    accuracy = f"{challenger.correct.mean():.2%} of {len(challenger.correct):,} test images"
    against = f"{accuracy}, the first champion"
    if champion and comparison:
        against = (
            f"{accuracy} against {champion.correct.mean():.2%} of version {champion.version}; of the "
            f"{comparison.only_challenger + comparison.only_champion} images on which one of them errs it has "
            f"{comparison.only_challenger} right (p = {comparison.p_value:.3g})"
        )
    if promote:
        return f"{subject} becomes champion: {against}."
    broken = "; ".join(f"{rule.rule}: expected {rule.bound}, found {rule.found}" for rule in rules if not rule.met)
    return f"{subject} is refused: {broken}. It has {against.replace(', the first champion', '')}."


def _shown(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if value == int(value) else f"{value:.6g}"
