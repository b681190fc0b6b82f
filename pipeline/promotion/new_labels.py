"""Commit what `make label` wrote, so that a retraining cycle learns from it without a further command."""

from typing import Any

from ruamel.yaml import YAML

from pipeline.core.paths import Paths
from pipeline.promotion.repository import Repository


def commit(repository: Repository, paths: Paths) -> list[str]:
    """Commit new entries of `fetch.extra` whose source is in data/collected/, with the files by which DVC tracks it.

    Nothing is committed if params.yaml has any other change: that is for you to commit.

    Returns:
        The names of the data sets.
    """
    name, folder = paths.params.name, paths.collected.relative_to(paths.root).as_posix()
    if not repository.changed([name]):
        return []
    before, after = (
        YAML(typ="safe").load(text) for text in (repository.git("show", f"HEAD:./{name}"), paths.params.read_text())
    )
    added = _added(before, after, f"{folder}/")
    if added:
        files = repository.changed([name, f"{folder}/*.dvc", f"{folder}/.gitignore"])
        names = ", ".join(each["name"] for each in added)
        repository.commit(files, f"Add labelled images: {names}\n\n[skip ci]")
    return [each["name"] for each in added]


def _added(before: Any, after: Any, folder: str) -> list[Any]:
    """The new entries of fetch.extra, all below `folder`; none if anything else differs."""
    old, new = (each["fetch"].pop("extra", None) or [] for each in (before, after))
    if before != after or new[: len(old)] != old:
        return []
    added = new[len(old) :]
    return added if all(str(each.get("source", "")).startswith(folder) for each in added) else []
