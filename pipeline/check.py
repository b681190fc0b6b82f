"""Hash again what DVC keeps of the pipeline's outputs and what lies in their place, and take out what is damaged.

DVC hashes a file once: what a disk does to it later, it does not see, and calls it up to date.
"""

import argparse
import sys
from pathlib import Path

from pipeline.core import cache, console
from pipeline.core.checkout import Checkout
from pipeline.core.errors import DamagedError
from pipeline.core.params import Params
from pipeline.core.paths import Paths


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    """Raise DamagedError where anything is not what it was."""
    root = paths.root.absolute()
    kept, placed = cache.remove_damaged(Path(Checkout(root).dvc("cache", "dir"))), cache.touch_altered(root)
    if kept or placed:
        raise DamagedError([*kept, *(path.relative_to(root) for path in placed)])
    console.say("check", "every file in DVC's cache and every output is what it was")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m pipeline.check", description=__doc__)
    sys.exit(console.run_command(parser, run))
