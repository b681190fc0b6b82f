"""Whether everything that names the champion names the same file: registry alias, its record, its run, and the git tag."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from pipeline.core import files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.promotion import git_tags
from pipeline.tracking.errors import AlteredModelError


class Facts(NamedTuple):
    """What each place says of the champion."""

    version: int
    md5: str | None  # of the registered file; None where it is not the one that was registered
    run_found: bool
    recorded: int | None  # the version of the last recorded move
    registry_tag: str | None  # the git version that the registry has for it
    git_tag: str | None  # the git version that the champion's newest tag names
    git_tag_md5: str | None  # of the model in dvc.lock of the commit tagged


def gather(params: Params, paths: Paths) -> Facts:
    """What each place says of the champion.

    Raises:
        NoVersionError: there is none.
    """
    from pipeline.promotion import champions
    from pipeline.tracking import registry  # MLflow takes seconds

    champion = registry.champion(params.tracking.model)
    with TemporaryDirectory(prefix="champion-") as folder:
        try:
            md5 = files.md5(registry.download(champion, Path(folder))[0])
        except AlteredModelError:
            md5 = None
    moves, tagged = champions.moves(champion.name), git_tags.champion(paths.root, champion.name)
    return Facts(
        champion.number,
        md5,
        registry.run_exists(champion),
        moves[-1].champion if moves else None,
        champion.tags.get(registry.GIT_TAG),
        tagged and tagged.version,
        tagged and git_tags.locked_md5(paths.root, tagged.commit, paths.onnx),
    )


def problems(facts: Facts) -> list[str]:
    """What does not agree, and what to do about it; empty where all is well."""
    found = []
    if facts.md5 is None:
        found.append("its registered file was altered: `make rollback`, then register it again with `make register`")
    if not facts.run_found:
        found.append("the run that made it is not in the store: `make register` in the checkout that has its files")
    if facts.recorded != facts.version:
        found.append(f"the last recorded move is to version {facts.recorded}: `make promote` records this one")
    if facts.git_tag is None and facts.registry_tag is None:
        return found  # git tags are not in use
    if facts.git_tag is None:
        found.append(f"git tag {facts.registry_tag} is not in this checkout: `git fetch --tags`, or `make promote TAG=1`")
    elif facts.md5 is not None and facts.git_tag_md5 != facts.md5:
        found.append(f"the git tag {facts.git_tag} names another file: `make promote TAG=1` tags the registry's champion")
    return found
