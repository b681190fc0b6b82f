"""Make the previous champion champion again.

The champion that it replaces is not promoted a second time.

Example:
    python -m pipeline.rollback --tag
"""

import argparse
import sys
from typing import TYPE_CHECKING

from pipeline.core import console
from pipeline.core.params import Params
from pipeline.core.paths import Paths

if TYPE_CHECKING:
    from pipeline.promotion.publishing import Publisher


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    from pipeline.promotion import champions, state  # MLflow takes seconds to import: only with valid parameters
    from pipeline.promotion.publishing import Publisher
    from pipeline.tracking.connection import connected

    name, publisher = params.tracking.model, Publisher(paths, params.tracking.model)
    if options.tag:
        publisher.prepare()
    with connected(params, paths):
        facts, steps = state.settle(params, paths)
        number = facts.recorded.champion if facts.recorded else None
        champion = champions.roll_back(name, number, facts.model)
    for step in steps:
        console.echo("restore", step)
    console.echo("rollback", f"version {champion.number} is champion again, in place of version {number}")
    if options.tag:
        tag(publisher, params, paths)
    return 0


def tag(publisher: "Publisher", params: Params, paths: Paths) -> None:
    """Tag the champion, push the tags, and ask the remote for the champion."""
    from pipeline.promotion import champion_tag
    from pipeline.tracking.connection import connected

    with connected(params, paths):
        tagged = champion_tag.tag_champion(params, paths)
    publisher.push_tags(tagged.md5)
    where = f", and at {publisher.upstream.remote}" if publisher.upstream else ""
    console.echo("tag", f"{params.tracking.model}@{tagged.version} is champion in git{where}")


if __name__ == "__main__":
    parser = console.parser("rollback", __doc__)
    parser.add_argument("--tag", action="store_true", help="also tag it as champion in git, and push the tag")
    sys.exit(console.run_command(parser, run))
