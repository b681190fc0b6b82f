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
    checkout = Repository(root)
    mended = dvc_state.repair(checkout)
    for file in mended:
        now = "it is as git has it again" if (root / file).exists() else "it is removed"
        console.echo("check", f"{file} was cut off, as by a kill of DVC while it wrote it: {now}")
    if options.lock:
        return 0 if mended else 1
    kept = dvc_cache.remove_damaged(Path(checkout.dvc("cache", "dir")))
    placed = [path for path in dvc_cache.differing(root) if path.exists()]
    dvc_cache.touch(placed)
    if damaged := [*kept, *placed]:
        raise DamagedError([path.relative_to(root) if path.is_relative_to(root) else path for path in damaged])
    console.echo("check", "every file in DVC's cache and every output is what it was")
    return 0


if __name__ == "__main__":
    parser = console.parser("check", __doc__)
    parser.add_argument(
        "--lock",
        action="store_true",
        help="only repair files that a killed DVC left truncated; exit code 1 if there were none",
    )
    sys.exit(console.run_command(parser, run))
