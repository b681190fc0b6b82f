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
from pipeline.promotion import git_tags
from pipeline.tracking.errors import NoVersionError


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    from pipeline.promotion import champions
    from pipeline.tracking import registry, runs  # MLflow takes seconds: after the parameters have proved right

    name = params.tracking.model
    with runs.store_errors(paths):
        runs.connect(params, paths)
        champions.reconcile(name)
        previous, champion = registry.aliased(name, registry.PREVIOUS), registry.aliased(name, registry.CHAMPION)
        if previous is None or champion is None:
            raise NoVersionError(name, registry.PREVIOUS, "Only a champion that took another's place can be rolled back.")
        registry.tag(champion, registry.WITHDRAWN, f"rolled back to version {previous.number}")
        champions.make_champion(previous, f"rolled back from version {champion.number}")
    console.echo("rollback", f"version {previous.number} is champion again, in place of version {champion.number}")
    if options.tag:
        git_tag = previous.tags.get(registry.GIT_TAG)
        if git_tag is None:
            raise NoVersionError(f"{name} version {previous.number}", registry.GIT_TAG, "It was promoted without --tag.")
        git_tags.assign_champion(paths.root, name, git_tag, f"{name} version {previous.number}, rolled back to")
        console.echo("tag", f"{name}@{git_tag} is champion in git")
    return 0


if __name__ == "__main__":
    parser = console.parser("rollback", __doc__)
    parser.add_argument("--tag", action="store_true", help="also tag it as champion in git")
    sys.exit(console.run_command(parser, run))
