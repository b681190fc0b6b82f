"""Record the DVC remote, from which every clone pulls the outputs, in .dvc/config.

Without a URL, print the one that is recorded. The next retraining cycle commits the file; or commit it yourself.

Example:
    python -m pipeline.remote s3://bucket/path
"""

import argparse
import sys

from pipeline.core import console
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.core.urls import redacted
from pipeline.promotion import dvc_remote
from pipeline.promotion.repository import Repository


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    root = paths.root.absolute()
    if options.url:
        target = dvc_remote.record(Repository(root), options.url)
        console.echo("remote", f"{target} is in {dvc_remote.CONFIG}; try it with `dvc push`, then commit that file")
    elif known := dvc_remote.address(root):
        console.echo("remote", redacted(known))
    else:
        console.echo("remote", "none: URL is empty, so outputs stay in this checkout")
    return 0


if __name__ == "__main__":
    parser = console.parser("remote", __doc__)
    parser.add_argument("url", nargs="?", default="", help="a folder, or an ssh:// or s3:// address, without credentials")
    sys.exit(console.run_command(parser, run))
