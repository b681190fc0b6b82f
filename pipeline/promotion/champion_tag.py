"""Keep the git tags of champions in step with the model registry."""

from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.core import files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.promotion import git_tags
from pipeline.tracking import registry
from pipeline.tracking.errors import NoVersionError
from pipeline.tracking.registry import Version


def tag_champion(params: Params, paths: Paths) -> str:
    """Give the registry's champion its git tags, unless it has them; return its git version, such as v1.2.0.

    This also completes a promotion that was interrupted before it tagged anything.

    Raises:
        NoVersionError: there is no champion.
        AlteredModelError: its registered file was altered.
        GitTagError: the current commit does not hold the champion's file.
    """
    name = params.tracking.model
    champion = registry.named(name, registry.CHAMPION)
    with TemporaryDirectory(prefix="promote-") as folder:
        md5 = files.md5(registry.download(champion, Path(folder))[0])
    message = f"{name} version {champion.number}, SHA-256 {champion.hashes.onnx}, run {champion.run_id}"
    known = registry.tag_of_model(champion, registry.GIT_TAG)
    if known and known in git_tags.versions(paths.root, name):  # otherwise the checkout that tagged it never pushed the tag
        tagged = git_tags.champion(paths.root, name)
        if tagged is None or tagged.version != known:
            git_tags.assign_champion(paths.root, name, known, message)
        return known
    new = git_tags.tag_commit(paths.root, name, paths.onnx, md5, message)
    registry.tag(champion, registry.GIT_TAG, new.version)
    return new.version


def tag_again(champion: Version, paths: Paths) -> str:
    """Tag a version that was champion before as the champion, and return its git version.

    Raises:
        NoVersionError: it never got a git tag.
    """
    known = registry.tag_of_model(champion, registry.GIT_TAG)
    if known is None:
        raise NoVersionError(f"{champion.name} version {champion.number}", registry.GIT_TAG, "It was promoted without --tag.")
    message = f"{champion.name} version {champion.number}, rolled back to"
    git_tags.assign_champion(paths.root, champion.name, known, message)
    return known
