"""The model of another git revision: from the DVC cache, from the DVC remote, or rebuilt."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.core.paths import TRACKING_URI, Paths
from pipeline.promotion.errors import RepositoryError
from pipeline.promotion.repository import Repository

_LOCAL = Path(".dvc") / "config.local"


@contextmanager
def checked_out(repository: Repository, revision: str) -> Iterator[Path]:
    """Yield the model.onnx of `revision`, in a temporary checkout that shares this one's DVC cache.

    Raises:
        RepositoryError: the revision does not exist, or its stages do not run here.
    """
    with TemporaryDirectory(prefix="base-") as folder:
        tree = Path(folder).resolve() / "tree"
        repository.git("worktree", "add", "--quiet", "--detach", str(tree), revision)
        try:
            base = Repository(tree / repository.git("rev-parse", "--show-prefix"))
            if (repository.root / _LOCAL).exists():  # may hold the credentials of the remote
                shutil.copy(repository.root / _LOCAL, base.root / _LOCAL)
            base.dvc("config", "--local", "cache.dir", repository.dvc("cache", "dir"))
            model = Paths(base.root).onnx
            _obtain(base, model.relative_to(base.root).as_posix())
            yield model
        finally:
            repository.git("worktree", "remove", "--force", str(tree))


def _obtain(base: Repository, model: str) -> None:
    for command in (["checkout", model], ["pull", model]):
        try:
            base.dvc(*command)
        except RepositoryError:
            continue
        return
    base.dvc("repro", "export", environment={TRACKING_URI: ""})  # a rebuilt model is no run of the team's store
