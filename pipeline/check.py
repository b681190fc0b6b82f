"""Verify the hashes of DVC's cache and of the pipeline's outputs, and remove damaged files.

DVC hashes a file once. It does not notice later disk damage and reports the file as up to date.

Example:
    python -m pipeline.check
"""

import argparse
import sys
from pathlib import Path

from pipeline.core import console
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.promotion import dvc_cache, dvc_state
from pipeline.promotion.errors import DamagedError
from pipeline.promotion.repository import Repository


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    """Raise DamagedError if any file changed. With `options.lock`, only repair DVC's files; return 1 if none was truncated."""
    root = paths.root.absolute()
    repository = Repository(root)
    repaired = dvc_state.repair(repository)
    for file in repaired:
        action = "restored from git" if (root / file).exists() else "removed"
        console.echo("check", f"{file} was truncated, probably when DVC was killed: {action}")
    if options.lock:
        return 0 if repaired else 1
    objects = dvc_cache.remove_damaged(Path(repository.dvc("cache", "dir")))
    outputs = [path for path in dvc_cache.differing(root) if path.exists()]
    dvc_cache.touch(outputs)
    if damaged := [*objects, *outputs]:
        raise DamagedError([path.relative_to(root) if path.is_relative_to(root) else path for path in damaged])
    console.echo("check", "all files in DVC's cache and all outputs are intact")
    return 0


if __name__ == "__main__":
    parser = console.parser("check", __doc__)
    parser.add_argument(
        "--lock",
        action="store_true",
        help="only repair files that a killed DVC left truncated; exit code 1 if there were none",
    )
    sys.exit(console.run_command(parser, run))
