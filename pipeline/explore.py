"""Open the explorer page in your browser.

The page is one file and needs no server.

Example:
    python -m pipeline.explore
"""

import argparse
import sys
import webbrowser

from pipeline.core import console, files
from pipeline.core.params import Params
from pipeline.core.paths import Paths


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    page = files.require(paths.page).absolute()
    if webbrowser.open(page.as_uri()):
        console.echo("explore", f"opened {page} in your browser")
    else:
        console.echo("explore", f"no browser on this machine; open {page} on any other")
    return 0


if __name__ == "__main__":
    parser = console.parser("explore", __doc__)
    sys.exit(console.run_command(parser, run))
