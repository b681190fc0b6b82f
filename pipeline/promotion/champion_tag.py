"""Keep the git tags of champions in step with the model registry."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from pipeline.core import files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.promotion import git_tags
from pipeline.tracking import registry


class ChampionTag(NamedTuple):
    """The champion's version by git tag, such as v1.2.0, and the MD5 of its file."""

    version: str
    md5: str


def tag_champion(params: Params, paths: Paths) -> ChampionTag:
    """Give the registry's champion its git tags, unless it has them.

    This also completes a promotion that was interrupted before it tagged anything. A version that was champion before becomes
    champion by tag again: the commit that holds its file decides, not the tag that the registry remembers.

    Raises:
        NoVersionError: there is no champion.
        AlteredModelError: its registered file was altered.
        GitTagError: neither a tagged commit nor the current one holds the champion's file.
    """
    name = params.tracking.model
    champion = registry.named(name, registry.CHAMPION)
    with TemporaryDirectory(prefix="promote-") as folder:
        md5 = files.md5(registry.download(champion, Path(folder))[0])
    message = f"{name} version {champion.number}, SHA-256 {champion.hashes.onnx}, run {champion.run_id}"
    tagged = git_tags.tag_champion(paths.root, name, paths.onnx, md5, message)
    if champion.tags.get(registry.GIT_TAG) != tagged.version:
        registry.tag(champion, registry.GIT_TAG, tagged.version)
    return ChampionTag(tagged.version, md5)
