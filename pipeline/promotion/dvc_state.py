"""The files in which DVC keeps its state: which command is running, and how to repair what a killed DVC left truncated.

DVC writes dvc.lock and .dvc/tmp/rwlock in place. Killed meanwhile, it leaves a part that it refuses to read from then on.
There is no public API for either file, so this module uses DVC's own reader, schema and lock.
"""

import json
from contextlib import suppress
from itertools import chain

from pipeline.core import processes
from pipeline.promotion.dvc_cache import LOCK
from pipeline.promotion.errors import RepositoryError
from pipeline.promotion.repository import Repository

RWLOCK = ".dvc/tmp/rwlock"  # JSON: which process reads or writes which file


def running_command(repository: Repository) -> str | None:
    """The DVC command that is running in this checkout, or None. Entries of killed processes do not count."""
    try:
        locks = json.loads((repository.root / RWLOCK).read_text(encoding="utf-8") or "{}")
    except (FileNotFoundError, json.JSONDecodeError):  # DVC is writing it
        return None
    holders = [*locks.get("write", {}).values(), *chain.from_iterable(locks.get("read", {}).values())]
    holder = next((holder for holder in holders if processes.is_alive(holder["pid"])), None)
    return f"`dvc {holder['cmd'].partition('.py ')[2]}`, process {holder['pid']}" if holder else None


def repair(repository: Repository) -> list[str]:
    """Repair the files that a killed DVC left truncated, and return their names.

    A truncated dvc.lock moves to .dvc/tmp, and git's takes its place. If git has none, DVC's run cache still knows the stages
    that ran, and does not run them again. A dvc.lock in a merge conflict stays as it is.
    """
    steps = ((RWLOCK, _remove_rwlock), (LOCK, _restore_lock))
    return [file for file, step in steps if step(repository)]


def _remove_rwlock(repository: Repository) -> bool:
    """Remove a truncated rwlock; return whether it was truncated."""
    from dvc.exceptions import DvcException
    from dvc.lock import make_lock

    path = repository.root / RWLOCK

    def truncated() -> bool:
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError:
            return True
        return False

    with suppress(FileNotFoundError, DvcException):  # there is no rwlock, or DVC is using it
        if truncated():
            with make_lock(f"{path}.lock", tmp_dir=str(path.parent)):  # DVC holds this lock while it writes
                if truncated():
                    path.unlink()
                    return True
    return False


def _restore_lock(repository: Repository) -> bool:
    """Restore a truncated dvc.lock from git; return whether it was truncated."""
    lock, trash = repository.root / LOCK, repository.root / ".dvc" / "tmp" / LOCK
    # A running DVC command may be writing dvc.lock now.
    if not _is_truncated(repository) or running_command(repository) or _is_unmerged(repository, LOCK):
        return False
    trash.parent.mkdir(exist_ok=True)
    lock.replace(trash)
    with suppress(RepositoryError):
        repository.git("checkout", "--", LOCK)
    return True


def _is_truncated(repository: Repository) -> bool:
    from dvc.exceptions import DvcException
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils import strictyaml

    try:
        _, text = strictyaml.load(str(repository.root / LOCK), COMPILED_LOCKFILE_SCHEMA)
    except FileNotFoundError:
        return False
    except DvcException:
        return True
    return not text.endswith("\n")  # DVC accepts most truncated files, and takes the missing entries for new


def _is_unmerged(repository: Repository, file: str) -> bool:
    try:
        return bool(repository.git("ls-files", "--unmerged", "--", file))
    except RepositoryError:  # no git checkout
        return False
