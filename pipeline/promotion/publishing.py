"""Publish the champion to the upstream of the branch, in an order that is safe if it is cut, and ask whether it arrived.

Outputs come first, then the branch, then the tags: whatever is there can be pulled. The next cycle does what is missing.
"""

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.core import files
from pipeline.core.paths import Paths
from pipeline.promotion import dvc_remote, git_tags, upstream
from pipeline.promotion.errors import NotPublishedError, RepositoryError, UpstreamError
from pipeline.promotion.repository import Repository
from pipeline.promotion.upstream import Refs, Upstream


class Publisher:
    """Publishes the model `name` of a checkout: the file that its stage export writes."""

    def __init__(self, paths: Paths, name: str) -> None:
        self.root, self.name = paths.root.absolute(), name
        self.repository, self.file = Repository(self.root), Paths(self.root).onnx
        self.upstream: Upstream | None = None
        self.refs = Refs(None, {})

    def prepare(self) -> list[str]:
        """Fetch what the upstream has, and move tags that a rebase left behind; return the names of the moved tags.

        Raises:
            UpstreamError: the branch has no upstream, although there are remotes.
            DvcRemoteError: no clone could find the outputs.
            RepositoryError: git refuses.
        """
        self.upstream = upstream.of(self.repository)
        if self.upstream:
            dvc_remote.check_recorded(self.root)
            self.refs = self.upstream.fetch(self.name)
        return git_tags.move_rebased(self.root, self.name, self.file, self.refs.tags)

    def look(self) -> None:
        """Fetch what the upstream has, if there is one.

        Raises:
            RepositoryError: it does not answer.
        """
        with suppress(UpstreamError, RepositoryError):  # no checkout, no branch, or one that tracks none
            self.upstream = upstream.of(self.repository)
        if self.upstream:
            self.refs = self.upstream.fetch(self.name)

    def champion_md5(self) -> str | None:
        """The MD5 of the champion by git tag, of those at the remote if there is one; None without one."""
        among = self.refs.tags if self.upstream else None
        tagged = git_tags.champion(self.root, self.name, among)
        return tagged and git_tags.locked_md5(self.root, tagged.commit, self.file)

    def is_published(self, md5: str) -> bool:
        """Whether the file with this MD5 is the champion by git tag, and the branch is at the remote."""
        return self.champion_md5() == md5 and (
            self.upstream is None or self.refs.head == self.repository.git("rev-parse", "HEAD")
        )

    def todo(self) -> str | None:
        """The commands that publish the model's tags with their commits; None if the remote has them, or if there is none."""
        if self.upstream is None or not (missing := self.upstream.missing_tags(self.name, self.refs)):
            return None
        push, tags = f"git push {self.upstream.remote}", " ".join(f"'{name}'" for name in missing)
        return f"dvc push && {push} HEAD:{self.upstream.branch} && {push} {tags}"

    def publish(self, md5: str) -> None:
        """Push outputs, branch and tags, and ask the remote. Without a remote everything stays in this checkout.

        Raises:
            RepositoryError: git or DVC refuses.
            NotPublishedError: the remote does not answer with this model.
        """
        if dvc_remote.address(self.root):
            self.repository.dvc("push", "--run-cache")
        if self.upstream:
            self.upstream.push_branch()
            self.push_tags(md5)
            if not self.upstream.has_head(self.refs):
                raise NotPublishedError(self.upstream.name, "a branch without this commit")

    def push_tags(self, md5: str) -> None:
        """Push the model's tags, and ask the remote for the champion.

        Raises:
            RepositoryError: git refuses.
            NotPublishedError: the remote does not answer with this model.
        """
        if self.upstream is None:
            return
        pushed = self.upstream.missing_tags(self.name, self.refs)
        self.upstream.push_tags(pushed)
        self.refs = self.upstream.fetch(self.name)
        if missing := [tag for tag in pushed if tag not in self.refs.tags]:
            raise NotPublishedError(self.upstream.name, f"no tag {', '.join(missing)}")
        if (found := self.ask()) != md5:
            raise NotPublishedError(self.upstream.name, f"a champion with MD5 {found}, expected {md5}")

    def ask(self) -> str:
        """The MD5 of the file that `dvc artifacts get REMOTE model --stage champion` gives.

        DVC gets the refs that the remote just listed, and the committed configuration, but the objects of this checkout: the
        credentials for the git remote may be known to this checkout alone.

        Raises:
            NotPublishedError: it gives none.
        """
        artifact = git_tags.artifact(self.root, self.name)
        with TemporaryDirectory(prefix="published-") as folder:
            target = Path(folder) / self.file.name
            local = self.root / dvc_remote.LOCAL
            options = ["--config", str(local)] if local.exists() else []
            try:
                address = self._view(Path(folder) / "remote.git").as_uri()
                command = ("artifacts", "get", address, artifact, "--stage", "champion", "--out", str(target))
                self.repository.dvc(*command, *options)
            except RepositoryError as error:
                where = self.upstream.name if self.upstream else "git"
                command_shown = f"`dvc artifacts get URL {artifact} --stage champion`"
                raise NotPublishedError(where, f"that {command_shown} fails: {error.reason}") from error
            return files.md5(target)

    def _view(self, folder: Path) -> Path:
        """A repository that has the refs of the remote, and borrows the objects of this checkout."""
        objects, shallow = (
            self.root / self.repository.git("rev-parse", "--git-path", path) for path in ("objects", "shallow")
        )
        self.repository.git("init", "--quiet", "--bare", "--initial-branch", "published", str(folder))
        (folder / "objects" / "info" / "alternates").write_text(f"{objects.resolve()}\n", encoding="utf-8")
        if shallow.exists():
            (folder / "shallow").write_bytes(shallow.read_bytes())
        (folder / "refs" / "heads" / "published").write_text(f"{self.refs.head}\n", encoding="utf-8")
        lines = [f"{sha} refs/tags/{name}\n" for name, sha in sorted(self.refs.tags.items())]
        (folder / "packed-refs").write_text("".join(lines), encoding="utf-8")
        return folder
