"""Check that everything that names the champion names the same file: registry alias, record, run and git tag."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from pipeline.core import files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.promotion import champions, git_tags
from pipeline.tracking import registry
from pipeline.tracking.errors import AlteredModelError


class Facts(NamedTuple):
    """What each place says about the champion."""

    version: int
    md5: str | None  # of the registered file; None if it has changed since its registration
    run_exists: bool
    recorded: int | None  # the version of the last recorded move
    registry_tag: str | None  # the git tag that the registry has for the version
    git_tag: str | None  # the newest git tag of a champion
    git_tag_md5: str | None  # of the model, by dvc.lock of the tagged commit


def gather(params: Params, paths: Paths) -> Facts:
    """Ask each place about the champion.

    Raises:
        NoVersionError: there is no champion.
    """
    champion = registry.champion(params.tracking.model)
    with TemporaryDirectory(prefix="champion-") as folder:
        try:
            md5 = files.md5(registry.download(champion, Path(folder))[0])
        except AlteredModelError:
            md5 = None
    moves, tagged = champions.moves(champion.name), git_tags.champion(paths.root, champion.name)
    return Facts(
        version=champion.number,
        md5=md5,
        run_exists=registry.run_exists(champion),
        recorded=moves[-1].champion if moves else None,
        registry_tag=champion.tags.get(registry.GIT_TAG),
        git_tag=tagged and tagged.version,
        git_tag_md5=tagged and git_tags.locked_md5(paths.root, tagged.commit, paths.onnx),
    )


def problems(facts: Facts) -> list[str]:
    """Each disagreement and how to fix it; empty if there is none."""
    found = []
    if facts.md5 is None:
        found.append("its registered file was altered: run `make rollback`, then `make register` to register the model again")
    if not facts.run_exists:
        found.append("the store does not have its run: run `make register` in the checkout that has its files")
    if facts.recorded != facts.version:
        found.append(f"the last recorded move is to version {facts.recorded}: run `make promote` to record this one")
    if facts.git_tag is None and facts.registry_tag is None:
        return found  # git tags are not in use
    if facts.git_tag is None:
        found.append(f"this checkout lacks git tag {facts.registry_tag}: run `git fetch --tags` or `make promote TAG=1`")
    elif facts.md5 is not None and facts.git_tag_md5 != facts.md5:
        found.append(f"git tag {facts.git_tag} names another file: run `make promote TAG=1` to tag the registry's champion")
    return found
