"""Verify files by their hashes: the objects in DVC's cache, and the outputs in the working tree.

DVC itself does not: it trusts a cached object by its permissions, and an output by its modification time. This module relies
on DVC's layout of files: the MD5 of an object's content is its name in the cache, and the MD5 of an output is in dvc.lock.
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

_DIR = ".dir"  # suffix of an object that lists the files of a folder


def damaged(cache: Path) -> list[Path]:
    """The objects whose content does not match their name, in a cache or in a remote that is a folder."""
    objects = [path for path in sorted((cache / "files" / "md5").glob("??/*")) if re.fullmatch(r"\w{30}(\.dir)?", path.name)]
    return [path for path in objects if files.md5(path) != f"{path.parent.name}{path.name.removesuffix(_DIR)}"]


def remove_damaged(cache: Path) -> list[Path]:
    """Remove the damaged objects from the cache, and return them.

    DVC would check them out and push them. It takes a missing object from the working tree or the remote, or builds it again.
    """
    found = damaged(cache)
    for path in found:
        path.unlink()
    return found


def differing(root: Path) -> list[Path]:
    """The outputs that are missing or do not match dvc.lock."""
    lock = root / LOCK
    stages = YAML(typ="safe").load(lock)["stages"].values() if lock.exists() else []
    recorded = {root / out["path"]: out.get("md5", "") for stage in stages for out in stage.get("outs", [])}
    return [path for path, md5 in recorded.items() if not path.exists() or _md5(path) != md5]


def touch(paths: Iterable[Path]) -> None:
    """Set the modification time of files, and of everything in folders, to now, so that DVC hashes them again."""
    for path in paths:
        for file in (path, *path.rglob("*")):
            os.utime(file)


def _md5(path: Path) -> str:
    """The MD5 of a file, or of the list of files that DVC keeps for a folder."""
    if path.is_file():
        return files.md5(path)
    listed = [
        {"md5": files.md5(file), "relpath": file.relative_to(path).as_posix()} for file in path.rglob("*") if file.is_file()
    ]
    text = json.dumps(sorted(listed, key=lambda entry: entry["relpath"]), sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + _DIR
