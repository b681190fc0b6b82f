"""The branch at a git remote that the current branch tracks: what is there, and how to fetch it and push to it.

Nothing else is ever pushed to, and the setting itself is never changed.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipeline.promotion import git_tags
from pipeline.promotion.errors import UpstreamError
from pipeline.promotion.repository import Repository


class Refs(NamedTuple):
    """What a remote answers: the commit of the branch, and the objects of the model's tags."""

    head: str | None  # None if the remote has no such branch yet
    tags: Mapping[str, str]


class Upstream(NamedTuple):
    """The branch `branch` at the git remote `remote`."""

    repository: Repository
    remote: str
    branch: str

    @property
    def name(self) -> str:
        return f"{self.remote}/{self.branch}"

    def refs(self, model: str) -> Refs:
        """Ask the remote."""
        ref = f"refs/heads/{self.branch}"
        patterns = git_tags.patterns(self.repository.root, model)
        lines = self.repository.git("ls-remote", self.remote, ref, *patterns).splitlines()
        found = {name: sha for sha, name in (line.split("\t") for line in lines)}
        tags = {name: sha for name, sha in found.items() if name.startswith("refs/tags/") and not name.endswith("^{}")}
        return Refs(found.get(ref), {name.removeprefix("refs/tags/"): sha for name, sha in tags.items()})

    def fetch(self, model: str) -> Refs:
        """Fetch the branch and the model's tags, also into a clone without tags. The remote's tags replace tags made here."""
        refs = self.refs(model)
        tags = [f"+{pattern}:{pattern}" for pattern in git_tags.patterns(self.repository.root, model)]
        branch = [f"refs/heads/{self.branch}"] if refs.head else []
        self.repository.git("fetch", "--quiet", "--no-tags", self.remote, *branch, *tags)
        return refs

    def check_current(self, refs: Refs, written: Sequence[str]) -> None:
        """Refuse a branch that lacks commits of the remote.

        Args:
            written: the files that retraining cycles commit.

        Raises:
            UpstreamError: it lacks some.
        """
        if refs.head is None or self.holds(refs.head):
            return
        count = self.repository.git("rev-list", "--count", f"HEAD..{refs.head}")
        base = self.repository.git("merge-base", "HEAD", refs.head) if self._related(refs.head) else refs.head
        changed = self.repository.git("diff", "--name-only", "--relative", base, "HEAD").splitlines()
        if changed and set(changed) <= set(written):
            todo = (
                f"Run `git reset --keep {refs.head[:12]}`: only retraining cycles committed here, and the next one redoes it."
            )
        else:
            todo = f"Run `git pull --rebase {self.remote} {self.branch}`."
        raise UpstreamError(f"the branch to hold all commits of {self.name}", f"that it lacks {count}", f"{todo} Then rerun.")

    def _related(self, commit: str) -> bool:
        return git_tags.git(self.repository.root, "merge-base", "HEAD", commit) is not None

    def holds(self, commit: str) -> bool:
        """Whether the current branch holds a commit."""
        return git_tags.git(self.repository.root, "merge-base", "--is-ancestor", commit, "HEAD") is not None

    def has_head(self, refs: Refs) -> bool:
        """Whether the remote's branch holds the current commit; somebody may have pushed on top of it."""
        root, head = self.repository.root, self.repository.git("rev-parse", "HEAD")
        return refs.head is not None and git_tags.git(root, "merge-base", "--is-ancestor", head, refs.head) is not None

    def push_branch(self) -> None:
        self._push(f"HEAD:refs/heads/{self.branch}")

    def missing_tags(self, model: str, refs: Refs) -> list[str]:
        """The tags of the model that the remote lacks, if their commits are on the branch; the version first."""
        known = git_tags.tags(self.repository.root, model)
        missing = [tag.name for tag in known if tag.name not in refs.tags and self.holds(tag.commit)]
        return sorted(missing, key=lambda name: "#" in name)

    def push_tags(self, names: Sequence[str]) -> None:
        if names:
            self._push(*(f"refs/tags/{name}:refs/tags/{name}" for name in names))

    def _push(self, *refspecs: str) -> None:
        # Not --atomic, which some servers refuse, and no other tags, whatever push.followTags says.
        self.repository.git("push", "--quiet", "--no-follow-tags", self.remote, *refspecs)


def of(repository: Repository) -> Upstream | None:
    """The upstream of the current branch; None if the checkout has no git remote.

    Raises:
        UpstreamError: there are remotes, but the branch tracks none of their branches.
        RepositoryError: no branch is checked out.
    """
    branch, remotes = repository.branch(), repository.git("remote").split()
    remote, merge = (repository.setting(f"branch.{branch}.{key}") for key in ("remote", "merge"))
    if remote and merge and remote != ".":
        return Upstream(repository, remote, merge.removeprefix("refs/heads/"))
    if not remotes:
        return None
    remote = remotes[0] if len(remotes) == 1 else "REMOTE"
    todo = f"Name it once: `git push --set-upstream {remote} {branch}`."
    raise UpstreamError(f"branch {branch} to track a branch of a remote, to which it publishes", "none", todo)
