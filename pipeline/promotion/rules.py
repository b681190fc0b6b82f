"""The promotion rule: may the challenger replace the champion? Pure: metrics in, a decision with its reasons out."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from pipeline.core.params import PromoteParams
from pipeline.promotion.mcnemar import Correct, McNemar, exact_test, passes
from pipeline.promotion.slice_tests import OneSided, better, greatest_loss, labels_needed, superior

REFUSED_EXIT_CODE = 3  # of `python -m pipeline.promote --check`

Metrics = Mapping[str, float]

_REQUIREMENTS = {
    "non_inferior": "not significantly worse than the champion",
    "superior": "significantly better than the champion",
}


class Candidate(NamedTuple):
    """A version of the registered model, scored on the current test split."""

    version: int
    onnx_sha256: str
    lineage: str  # digest of all that the model was made from, except the seed: pipeline.tracking.lineage
    correct: Correct  # (n,) bool: whether it predicts the label of each test image
    metrics: Metrics  # keys as in `promote.minimum` and `promote.maximum`
    slices: Mapping[str, Correct] = MappingProxyType({})  # by the name of each recent slice: as `correct`, on its images


class Rule(NamedTuple):
    """One condition of a promotion: the observed value, its bound, and the parameter that sets the bound, if one does."""

    rule: str
    observed: float | str
    bound: str
    met: bool
    parameter: str = ""

    @property
    def shown(self) -> str:
        """The observed value, as people read it."""
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
    slices: Mapping[str, OneSided] = MappingProxyType({})

    def record(self) -> dict[str, Any]:
        """The content of data/promotion.json."""
        content = self._asdict()
        content["rules"] = [rule._asdict() for rule in self.rules]
        content["comparison"] = self.comparison and self.comparison._asdict()
        content["slices"] = {name: result._asdict() for name, result in self.slices.items()}
        content["champion_figures"] = content.pop("champion_metrics")  # the key in the records of earlier versions
        return content


def decide(challenger: Candidate, champion: Candidate | None, withdrawn: bool, params: PromoteParams) -> Decision:
    """Decide on the challenger, whose metrics include each one that `params` bounds.

    Without a champion only the minimum and maximum values count. With recent slices, the challenger must be better on these
    and may lose at most `params.margin` of the test split. Otherwise `params.require` says what it must be. A challenger of
    the champion's lineage differs only in its seed and must be significantly better; otherwise we would promote noise.

    Args:
        withdrawn: whether a rollback withdrew this version.
    """
    rules = _bounds(challenger.metrics, params)
    comparison, slices, require = None, dict[str, OneSided](), str(params.require)
    if withdrawn:
        rules.append(Rule("withdrawn", "rolled back once", "never rolled back", met=False))
    if champion is not None:
        if champion.lineage == challenger.lineage:
            require = "superior"
        rules.append(_comparable(champion, params.champion_accuracy))
        comparison = exact_test(challenger.correct, champion.correct)
        if challenger.slices:
            require = "superior on recent slices"
            slices = {name: better(correct, champion.slices[name]) for name, correct in challenger.slices.items()}
            rules += [_within_margin(challenger, champion, params), _recent(slices, params)]
        else:
            rules.append(_paired(comparison, require, params))
    return Decision(
        promote=all(rule.met for rule in rules),
        challenger=challenger.version,
        champion=champion.version if champion else None,
        require=require,
        rules=tuple(rules),
        comparison=comparison,
        champion_metrics=dict(champion.metrics) if champion else {},
        sentence=_sentence(challenger, champion, rules, comparison, slices, params.alpha),
        slices=slices,
    )


def _bounds(metrics: Metrics, params: PromoteParams) -> list[Rule]:
    minimum, maximum = params.minimum.model_dump(), params.maximum.model_dump()
    without = []
    if "int8_agreement" not in metrics:
        bound = f"at least {_shown(minimum.pop('int8_agreement'))} where there is one"
        without = [Rule("int8_agreement", "no int8 file", bound, met=True)]
    return [
        *without,
        *(
            Rule(name, metrics[name], f"at least {_shown(bound)}", metrics[name] >= bound, f"promote.minimum.{name}")
            for name, bound in minimum.items()
        ),
        *(
            Rule(name, metrics[name], f"at most {_shown(bound)}", metrics[name] <= bound, f"promote.maximum.{name}")
            for name, bound in maximum.items()
        ),
    ]


def _comparable(champion: Candidate, bound: float) -> Rule:
    """If labels change their meaning in both splits, the challenger has learned it. A champion that fails now reveals it."""
    accuracy = float(champion.correct.mean())
    met = accuracy >= bound
    return Rule("accuracy of the champion", accuracy, f"at least {_shown(bound)}", met, "promote.champion_accuracy")


def _paired(comparison: McNemar, require: str, params: PromoteParams) -> Rule:
    observed = f"{comparison.only_challenger} images won and {comparison.only_champion} lost, p = {comparison.p_value:.3g}"
    bound = f"{_REQUIREMENTS[require]} (alpha {params.alpha:g})"
    parameter = "promote.require and promote.alpha" if require == params.require else ""  # a lineage of the champion's
    return Rule("paired test", observed, bound, passes(comparison, require, params.alpha), parameter)


def _within_margin(challenger: Candidate, champion: Candidate, params: PromoteParams) -> Rule:
    loss = greatest_loss(challenger.correct, champion.correct, params.alpha)
    bound = f"at most {params.margin:.2%} of the test split, with confidence {1 - params.alpha:.0%}"
    return Rule("loss on the test split", f"at most {max(0.0, loss):.2%}", bound, loss <= params.margin, "promote.margin")


def _recent(slices: Mapping[str, OneSided], params: PromoteParams) -> Rule:
    observed = ", ".join(
        f"{name}: {each.only_challenger} images won and {each.only_champion} lost of {each.images:,}, p = {each.p_value:.3g}"
        for name, each in slices.items()
    )
    bound = f"significantly better than the champion (alpha {params.alpha:g}{_corrected(slices)})"
    return Rule("recent images", observed, bound, superior(slices, params.alpha), "promote.alpha")


def _corrected(slices: Mapping[str, OneSided]) -> str:
    return f", divided by {len(slices)} slices" if len(slices) > 1 else ""


def needed_labels(slices: Mapping[str, OneSided], alpha: float) -> str:
    """How many labels it takes to find differences of the size that was observed; empty where none can be told."""
    lines = []
    for name, each in slices.items():
        won, lost = each.only_challenger / each.images, each.only_champion / each.images
        if each.p_value > alpha and (count := labels_needed(won, lost, alpha)):
            lines.append(f"a difference of {won - lost:.1%}, {name} needs about {count:,} labels; it has {each.images:,}")
    return "; ".join(lines)


def paired(comparison: McNemar, champion: Correct, name: str) -> str:
    """The part of a sentence about the paired test, which follows the accuracy of the challenger."""
    one_correct = comparison.only_challenger + comparison.only_champion
    return (
        f", against {champion.mean():.2%} of {name}; exactly one of the two is right on {one_correct} images: the new one on "
        f"{comparison.only_challenger} (p = {comparison.p_value:.3g})"
    )


def _sentence(
    challenger: Candidate,
    champion: Candidate | None,
    rules: list[Rule],
    comparison: McNemar | None,
    slices: Mapping[str, OneSided],
    alpha: float,
) -> str:
    subject = f"version {challenger.version}"
    accuracy = f"{challenger.correct.mean():.2%} on {len(challenger.correct):,} test images"
    if champion and comparison:
        accuracy += paired(comparison, champion.correct, f"version {champion.version}")
    for name, each in slices.items():
        before, after = each.accuracies
        accuracy += f"; on {each.images:,} images of {name} {after:.2%} against {before:.2%} (p = {each.p_value:.3g})"
    if broken := [
        f"{rule.rule}: expected {rule.bound}, found {rule.shown} ({rule.parameter or 'no parameter sets this'})"
        for rule in rules
        if not rule.met
    ]:
        more = f". For {needed}" if (needed := needed_labels(slices, alpha)) else ""
        return f"{subject} is refused: {'; '.join(broken)}. Its accuracy is {accuracy}{more}."
    return f"{subject} becomes champion: accuracy {accuracy}{'' if champion else ', the first champion'}."


def _shown(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{int(value):,}" if value == int(value) else f"{value:.6g}"
