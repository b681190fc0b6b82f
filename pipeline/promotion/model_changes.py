"""A page of Markdown about what a change of the repository does to the model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.core.params import PromoteParams
from pipeline.promotion.mcnemar import Correct, exact_test
from pipeline.promotion.rules import paired

_LONGEST = 300  # characters of a value

# By file, then by dotted key: old, new, and diff for numbers, as `dvc metrics diff --json` prints them.
Difference = Mapping[str, Mapping[str, Any]]


class Changes(NamedTuple):
    """What differs from the base."""

    base: str  # as you call the revision
    outdated: Sequence[str]  # stages whose outputs do not come from the code and the parameters of this tree
    params: Difference
    metrics: Difference
    verdict: str
    pictures: str  # where they are


def page(changes: Changes) -> str:
    params = [(key, each) for file in changes.params.values() for key, each in sorted(file.items())]
    lines = [f"# What this changes about the model, against {_code(changes.base)}", ""]
    if changes.outdated:
        lines += [
            f"⚠️ Run `make repro` first: {', '.join(map(_code, changes.outdated))} did not run since the last change.",
            "",
        ]
    lines += [changes.verdict, "", "## Metrics", ""]
    if rows := _metric_rows(changes.metrics):
        lines += ["| metric | base | this change | difference |", "|---|---:|---:|---:|", *rows]
    else:
        lines.append("No metric differs.")
    lines += ["", "## Parameters and versions", ""]
    if params:
        lines += ["| parameter | base | this change |", "|---|---|---|"]
        lines += [f"| {_code(key)} | {_shown(each.get('old'))} | {_shown(each.get('new'))} |" for key, each in params]
    else:
        lines.append("No parameter differs.")
    return "\n".join([*lines, "", "## Pictures", "", changes.pictures]) + "\n"


def _metric_rows(metrics: Difference) -> list[str]:
    """A row for each metric: those of metrics.json first, and of the float32 model before those of the others."""
    listed = [(Path(name).stem, key, each) for name, file in metrics.items() for key, each in file.items() if "diff" in each]
    listed.sort(key=lambda row: (row[0] != "metrics", row[0], "." in row[1], row[1]))
    return [
        f"| {_code(key if stem == 'metrics' else f'{stem}: {key}')} | {_shown(each.get('old'))} | {_shown(each.get('new'))} "
        f"| {each['diff']:+.3g} |"
        for stem, key, each in listed
    ]


def verdict(challenger: Correct, base: Correct, name: str, params: PromoteParams) -> str:
    """The paired test of this tree's model and the base's: each (n,) bool, whether it predicts the label of a test image."""
    result = exact_test(challenger, base)
    if result.p_value > params.alpha:
        found = "not significantly different"
    else:
        found = "significantly better" if result.difference > 0 else "⚠️ significantly worse"
    return (
        f"The model is **{found}** (alpha {params.alpha:g}). Its accuracy is {challenger.mean():.2%} on {len(challenger):,} "
        f"test images{paired(result, base, name)}."
    )


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else _code(value)


def _code(value: Any) -> str:
    """Text as code, which ends no cell and starts no HTML: whoever proposes the change chooses the values."""
    text = str(value).replace("\n", " ").replace("`", "'").replace("|", "\\|")
    return f"`{text if len(text) <= _LONGEST else f'{text[:_LONGEST]}…'}`"
