"""What DVC keeps and has put in place, hashed again: it trusts the one by its permissions and the other by its date.

An object of the cache is named by the MD5 of its content; an output stands in dvc.lock with its own.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.core import files

LOCK = "dvc.lock"

_DIR = ".dir"  # ends the name of a list of a folder's files


def damaged(cache: Path) -> list[Path]:
    """The objects of a cache, or of a remote that is a folder, whose content is not what their name says."""
    objects = [path for path in sorted((cache / "files" / "md5").glob("??/*")) if re.fullmatch(r"\w{30}(\.dir)?", path.name)]
    return [path for path in objects if files.md5(path) != f"{path.parent.name}{path.name.removesuffix(_DIR)}"]


def remove_damaged(cache: Path) -> list[Path]:
    """Remove the damaged objects of the cache, and return them.

    DVC would put them in place, and push them, as they are. One that is not there is taken from the tree or the remote, or
    made again.
    """
    found = damaged(cache)
    for path in found:
        path.unlink()
    return found


def differing(root: Path) -> list[Path]:
    """The outputs that are not there, or not as dvc.lock says."""
    lock = root / LOCK
    stages = YAML(typ="safe").load(lock)["stages"].values() if lock.exists() else []
    recorded = {root / out["path"]: out.get("md5", "") for stage in stages for out in stage.get("outs", [])}
    return [path for path, md5 in recorded.items() if not path.exists() or _md5(path) != md5]


def touch(paths: Iterable[Path]) -> None:
    """Give files, and folders with all that is in them, the date of now: DVC hashes them again then."""
    for path in paths:
        for file in (path, *path.rglob("*")):
            os.utime(file)


def _md5(path: Path) -> str:
    """The MD5 of a file, or of DVC's list of a folder's files."""
    if path.is_file():
        return files.md5(path)
    found = sorted((file.relative_to(path).as_posix(), files.md5(file)) for file in path.rglob("*") if file.is_file())
    listed = json.dumps([{"md5": md5, "relpath": name} for name, md5 in found], sort_keys=True)
    return hashlib.md5(listed.encode(), usedforsecurity=False).hexdigest() + _DIR
