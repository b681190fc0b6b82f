"""Make the previous champion champion again.

The champion that it replaces is not promoted a second time.

Example:
    python -m pipeline.rollback --tag
"""

import argparse
import sys

from pipeline.core import console
from pipeline.core.params import Params
from pipeline.core.paths import Paths


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    from pipeline.promotion import champion_tag, champions, state  # MLflow takes seconds to import: only with valid parameters
    from pipeline.tracking.connection import connected

    name = params.tracking.model
    with connected(params, paths):
        facts, steps = state.settle(params, paths)
        number = facts.recorded.champion if facts.recorded else None
        champion = champions.roll_back(name, number, facts.model)
    for step in steps:
        console.echo("restore", step)
    console.echo("rollback", f"version {champion.number} is champion again, in place of version {number}")
    if options.tag:
        console.echo("tag", f"{name}@{champion_tag.tag_again(champion, paths)} is champion in git")
    return 0


if __name__ == "__main__":
    parser = console.parser("rollback", __doc__)
    parser.add_argument("--tag", action="store_true", help="also tag it as champion in git")
    sys.exit(console.run_command(parser, run))
