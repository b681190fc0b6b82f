"""What tree, store and git hold of the champion, what of it is missing, and the one command that brings it back."""

from typing import NamedTuple

from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.promotion import champions, git_tags
from pipeline.promotion.champions import Move
from pipeline.promotion.publishing import Publisher
from pipeline.tracking import registration, registry
from pipeline.tracking.registry import Condition, Hashes, Version


class GitFacts(NamedTuple):
    """What the git tags of this checkout say about the champion."""

    tag: str | None  # the version that the newest champion tag names
    md5: str | None  # of its model, by dvc.lock of the tagged commit
    registered: str | None  # the git version that the registry has for the champion
    upstream: str | None = None  # the branch at the remote that this branch tracks, such as origin/main
    upstream_md5: str | None = None  # of the champion by the tags at that remote


class Facts(NamedTuple):
    """What each place holds of the champion."""

    name: str
    tree: Hashes | None  # the model of this tree
    champion: Condition | None  # the version with the alias
    recorded: Move | None  # the last recorded move
    known: bool  # whether the version of that move exists
    model: Hashes | None  # of the alias, or else of the last recorded move
    best: Condition | None  # the version of `model` of which the store holds most
    git: GitFacts | None = None  # None: not asked

    @property
    def servable(self) -> bool:
        return self.champion is not None and self.champion.files

    @property
    def in_tree(self) -> bool:
        """Whether the model of this tree is champion, and the store holds all of it."""
        champion = self.champion
        return champion is not None and champion.complete and champion.version.hashes == self.tree


class Problem(NamedTuple):
    """What is missing, and what brings it back."""

    found: str
    todo: str


def gather(params: Params, paths: Paths) -> Facts:
    """Look at the tree and in the store."""
    name = params.tracking.model
    alias, moves = registry.aliased(name, registry.CHAMPION), champions.moves(name)
    recorded = moves[-1] if moves else None
    last = registry.numbered(name, recorded.champion) if recorded else None
    before = last.hashes if last else recorded and recorded.model
    model = alias.hashes if alias else before
    best = registry.best(name, model) if model else None
    champion = best if best and best.version == alias else alias and registry.condition(alias)
    tree = registration.hashes(paths) if paths.onnx.is_file() and paths.int8.is_file() else None
    return Facts(name, tree, champion, recorded, last is not None, model, best)


def with_git(facts: Facts, paths: Paths) -> Facts:
    """Also look at the git tags of this checkout, and ask the remote for its own.

    Raises:
        RepositoryError: the remote does not answer.
    """
    publisher = Publisher(paths, facts.name)
    publisher.look()
    tagged = git_tags.champion(paths.root, facts.name)
    md5 = tagged and git_tags.locked_md5(paths.root, tagged.commit, paths.onnx)
    registered = registry.tag_of_model(facts.champion.version, registry.GIT_TAG) if facts.champion else None
    git = GitFacts(tagged and tagged.version, md5, registered)
    if publisher.upstream:
        git = git._replace(upstream=publisher.upstream.name, upstream_md5=publisher.champion_md5())
    return facts._replace(git=git)


def heir(facts: Facts) -> Version | None:
    """The version that should have the alias champion, because it is the same model and the store holds more of it."""
    best, champion = facts.best, facts.champion
    if best is None or not best.files:
        return None
    missing = champion is None or (best.files, best.run) > (champion.files, champion.run)
    return best.version if missing else None


def settle(params: Params, paths: Paths) -> tuple[Facts, list[str]]:
    """Bring alias and record in step with what the store holds. Return what is there now, and a line for each step."""
    facts, steps = gather(params, paths), []
    champion, recorded = facts.champion, facts.recorded
    if champion and (recorded is None or recorded.champion != champion.version.number):
        champions.record_by_hand(champion.version, recorded)
        steps.append(f"version {champion.version.number} became champion without a record; it has one now")
    if new := heir(facts):
        lost = problems(facts)[0].found
        champions.make_champion(new, f"the same model, because {lost}")
        steps.append(f"version {new.number} is champion, the same model, because {lost}")
    return (gather(params, paths) if steps else facts), steps


def problems(facts: Facts) -> list[Problem]:
    """Each thing that is missing or disagrees; empty if there is none."""
    if facts.champion is None:
        return [_absent(facts)]
    return [*_lost(facts, facts.champion), *_unrecorded(facts, facts.champion), *_untagged(facts, facts.champion)]


def _absent(facts: Facts) -> Problem:
    if facts.recorded is None:
        return Problem("there is no champion", "`make promote` decides on the model of this tree")
    state = "has lost the alias champion" if facts.known else "was deleted"
    return Problem(f"version {facts.recorded.champion}, champion since {facts.recorded.at}, {state}", _restore(facts))


def _lost(facts: Facts, champion: Condition) -> list[Problem]:
    since = f", champion since {facts.recorded.at}" if facts.recorded else ""
    lost = [name for name, there in (("files", champion.files), ("run", champion.run)) if not there]
    found = f"the store lost the {' and the '.join(lost)} of version {champion.version.number}{since}"
    return [Problem(found, _restore(facts))] if lost else []


def _restore(facts: Facts) -> str:
    if heir(facts) or (facts.tree and facts.tree == facts.model):
        return "`make promote` brings it back"
    new = "" if facts.servable else "; or `make promote FIRST=1` makes the model of this tree the first champion"
    return f"`make promote` in a checkout that has its files brings it back{new}"


def _unrecorded(facts: Facts, champion: Condition) -> list[Problem]:
    recorded = facts.recorded.champion if facts.recorded else None
    if recorded == champion.version.number:
        return []
    return [Problem(f"the last recorded move is to version {recorded or 'none'}", "`make promote` records this one")]


def _untagged(facts: Facts, champion: Condition) -> list[Problem]:
    git = facts.git
    if git is None or git.tag is git.registered is None:  # git tags are not in use
        return []
    if git.tag is None:
        return [
            Problem(
                f"this checkout lacks git tag {git.registered}", "`git fetch --tags` fetches it, `make promote TAG=1` makes it"
            )
        ]
    if champion.md5 is not None and git.md5 != champion.md5:
        todo = "`make promote TAG=1` tags the registry's champion"
        return [Problem(f"git tag {git.tag} names another file than version {champion.version.number}, the champion", todo)]
    return _unpublished(git, champion)


def _unpublished(git: GitFacts, champion: Condition) -> list[Problem]:
    if git.upstream is None or git.upstream_md5 == champion.md5:
        return []
    another = f"another champion than version {champion.version.number}"
    found = f"{git.upstream} has {'no champion' if git.upstream_md5 is None else another}"
    todo = "`make promote TAG=1` says how to push this one, `make retrain` pushes that of the tree"
    return [Problem(found, todo)]
