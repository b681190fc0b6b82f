"""What people read in MLflow: the names of runs, and the descriptions of runs, model versions and the registered model."""

import os
import re
from collections.abc import Mapping
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException

from pipeline.core import files
from pipeline.core.intervals import with_interval
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.tracking import registry
from pipeline.tracking.registry import Version
from pipeline.tracking.run_content import flatten

# A description may also hold notes of people, below this line, which MLflow does not show.
_MARK = "<!-- The pipeline replaces what stands above this line. It keeps what follows. -->"

_MOST = 5000  # characters of a description, in MLflow's schema
_MOST_OF_MODEL = 3000  # of the registered model's, because its page lists the versions below
_LEAST = 500  # of what the pipeline adds to the notes of people; with less room it adds nothing
_LEAST_NEEDED = ("Files", "Training parameters", "Data", "Results per class", "Usage")  # sections of the model card
_REST = "\n\nThe whole card is `model_card.md`, among the artifacts of the version's run."
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n\s*", re.DOTALL)

_NOTE = "mlflow.note.content"  # the tag that MLflow shows as the description of a run
_SECTIONS = ("model", "train", "export", "evaluate", "validate")  # parameters that decide the model, its data or its metrics
_MOST_CHANGES, _LONGEST_VALUE = 8, 60


def run_name(params: Params, accuracy: float | None = None) -> str:
    """The experiment's name, or the accuracy and the seed, such as `99.08% seed 0`."""
    seed = params.train.seed
    named = f"seed {seed}, not evaluated" if accuracy is None else f"{accuracy:.2%} seed {seed}"
    return os.environ.get("DVC_EXP_NAME") or named


def describe_run(run_id: str, version: Version, params: Params, paths: Paths) -> None:
    """Describe the run in three lines: the data, the accuracy, and what changed since the champion before this model.

    A run that train named gets its final name; a name that somebody chose stays.
    """
    client, run = mlflow.MlflowClient(), mlflow.get_run(run_id)
    if run.info.run_name == run_name(params):
        client.update_run(run_id, name=run_name(params, files.read_json(paths.metrics)["accuracy"]))
    lines = [f"- {line}" for line in (_data(paths), _accuracy(paths), _changes(version, params, paths))]
    client.set_tag(run_id, _NOTE, _joined(run.data.tags.get(_NOTE), "\n".join(lines)))


def describe_version(version: Version, paths: Paths) -> None:
    """Make the model card the description of the version, and of the registered model as long as there is no champion."""
    client, card = mlflow.MlflowClient(), _FRONT_MATTER.sub("", files.require(paths.model_card).read_text(encoding="utf-8"))
    before = client.get_model_version(version.name, str(version.number)).description
    if (text := _joined(before, card)) != before:
        client.update_model_version(version.name, str(version.number), text)
    if registry.aliased(version.name, registry.CHAMPION) is None:
        _describe_model(version.name, card)


def describe_champions(champion: Version, history: str) -> None:
    """Describe the registered model by the history of its champions, in Markdown, and by the champion's model card."""
    described = mlflow.MlflowClient().get_model_version(champion.name, str(champion.number)).description or ""
    _describe_model(champion.name, f"{history}\n\n{described.partition(_MARK)[0].strip()}")


def _describe_model(name: str, text: str) -> None:
    client = mlflow.MlflowClient()
    before = client.get_registered_model(name).description
    if (described := _joined(before, text, _MOST_OF_MODEL)) != before:
        client.update_registered_model(name, described)


def _joined(before: str | None, text: str, most: int = _MOST) -> str:
    """At most `most` characters of `text`, then what people wrote in the description, within the limit of the database."""
    ours, mark, below = (before or "").partition(_MARK)
    notes = below.strip() if mark else ours.strip()
    tail = f"\n\n{_MARK}\n\n{notes}".rstrip()
    if len(tail) + _LEAST > _MOST:  # their notes leave no room
        return before or ""
    return f"{shortened(text.strip(), min(most, _MOST - len(tail)))}{tail}"


def shortened(text: str, most: int) -> str:
    """Leave out the sections of a model card that readers need least until the text has at most `most` characters."""
    if len(text) <= most:
        return text
    sections = re.split(r"(?m)^(?=## )", text)
    for title in _LEAST_NEEDED:
        sections = [section for section in sections if not section.startswith(f"## {title}\n")]
        if len("".join(sections).rstrip()) + len(_REST) <= most:
            break
    return "".join(sections).rstrip()[: max(0, most - len(_REST))] + _REST


def _data(paths: Paths) -> str:
    manifest, expectations = datasets.read_manifest(paths), files.read_json(paths.report)["expectations"]
    base, *extra = datasets.segments(manifest, "train")
    test = manifest["files"]["test_images"]["shape"][0]
    train = " and ".join([f"{base.rows:,} training images", *(f"{each.rows:,} of {each.name}" for each in extra)])
    return f"**Data:** {manifest['dataset']}, {train}, {test:,} test images; {expectations['met']} expectations met"


def _accuracy(paths: Paths) -> str:
    metrics, images = files.read_json(paths.metrics), datasets.read_manifest(paths)["files"]["test_images"]["shape"][0]
    int8 = f"; {metrics['int8']['accuracy']:.2%} in int8" if "int8" in metrics else ""
    recent = "".join(
        f"; {with_interval(part['accuracy'], part['images'])} on {part['images']:,} of {name}"
        for name, part in metrics.get("slices", {}).items()
    )
    return f"**Accuracy:** {with_interval(metrics['accuracy'], images)} on {images:,} test images{int8}{recent}"


def _changes(version: Version, params: Params, paths: Paths) -> str:
    champion = registry.aliased(version.name, registry.CHAMPION)
    if champion and champion.hashes == version.hashes:
        champion = registry.aliased(version.name, registry.PREVIOUS)
    if champion is None:
        return "**Changed:** there was no champion to compare with"
    try:
        run = mlflow.get_run(champion.run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return f"**Changed** since champion version {champion.number}: unknown, because the store lost its run"
    found = [*_changed_params(run.data.params, params), *_changed_data(run.inputs.dataset_inputs, paths)]
    if not found:
        same = champion.tags.get(registry.LINEAGE) == version.tags.get(registry.LINEAGE)
        found = ["nothing" if same else "code or library versions, and no parameter or data"]
    more = [f"{len(found) - _MOST_CHANGES} more"] if len(found) > _MOST_CHANGES else []
    return f"**Changed** since champion version {champion.number}: {'; '.join([*found[:_MOST_CHANGES], *more])}"


def _changed_params(before: Mapping[str, str], params: Params) -> list[str]:
    """The parameters with another value than in `before`, as MLflow holds them."""
    now = {key: str(value) for key, value in flatten(params.model_dump(by_alias=True, include=_included())).items()}
    known = {key: value for key, value in before.items() if key.partition(".")[0] in _SECTIONS}
    changed = [key for key in sorted(now.keys() | known.keys()) if now.get(key) != known.get(key)]
    return [f"`{key}` {_shown(known.get(key))} → {_shown(now.get(key))}" for key in changed]


def _included() -> set[str]:
    """The names in `Params` of the sections: `validate` would hide a method of pydantic."""
    return {name for name, field in Params.model_fields.items() if (field.alias or name) in _SECTIONS}


def _shown(value: str | None) -> str:
    if value is None:
        return "none"
    return value if len(value) <= _LONGEST_VALUE else f"{value[: _LONGEST_VALUE - 1]}…"


def _changed_data(before: Any, paths: Paths) -> list[str]:
    """The data sets that were added, removed, or have other content, compared with the inputs of a run."""
    manifest, known = datasets.read_manifest(paths), {each.dataset.name: each.dataset.digest for each in before}
    parts = [part for split in ("train", "test") for part in datasets.segments(manifest, split)]
    now = {part.name: part.sha256[:36] for part in parts}
    words = {"added": now.keys() - known, "removed": known.keys() - now}
    words["changed"] = {name for name in now.keys() & known if now[name] != known[name]}
    return [f"data {word}: {', '.join(sorted(names))}" for word, names in words.items() if names]
