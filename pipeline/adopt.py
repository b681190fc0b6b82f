"""Adopt your own images: look at them, and write params.yaml so that `make repro` runs through.

The layout is recognised (docs/own-data.md lists them). Bounds, training and promotion parameters come from the data. What
looks wrong in them is listed in data/adopted/; --accept takes it as it is. `git checkout params.yaml` takes all back.

Example:
    python -m pipeline.adopt photos/
    python -m pipeline.adopt letters.zip --name letters --size 32x32 --dry-run
"""

import argparse
import sys

from pipeline.adoption import checkout, dataset, issues, params_file, search
from pipeline.core import console, files
from pipeline.core.params import Params
from pipeline.core.paths import Paths

UNDECIDED = 3  # exit code if some of the data look wrong and --accept is not given


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    if not options.dry_run:
        checkout.require_clean(paths.root)
    request = dataset.request(options, params, paths)
    with files.scratch(paths.adopted) as scratch, dataset.opened(request, params, scratch) as found:
        for line in found.description:
            console.echo("adopt", line)
        if found.issues:
            found.write_issues(paths.adopted)
            console.echo("adopt", f"{len(found.issues):,} image(s) or file(s) to look at: {paths.adopted / 'issues.csv'}")
        if found.undecided and not options.accept:
            for line in issues.lines(found.undecided, paths.adopted):
                console.echo("adopt", line)
            return UNDECIDED
        train, trials = search.search(found.train, found.params)
        search.show(trials)
        measured = search.first_model(found.train, train, found.params.evaluate, found.params)
        chosen = [*found.choices, *search.choices(train, trials), *search.promotion(measured)]
    before = paths.params.read_text(encoding="utf-8")
    after = params_file.edited(before, chosen)
    if options.dry_run:
        print(params_file.difference(before, after, paths.params))
        return 0
    params_file.write(paths.params, after)
    console.echo("adopt", f"wrote {len(chosen)} values to {paths.params}: `git diff` shows them, `make repro` uses them")
    return 0


if __name__ == "__main__":
    parser = console.parser("adopt", __doc__)
    parser.add_argument("data", metavar="PATH", help="a folder, a file, an archive, or the https address of a file")
    parser.add_argument("--name", help="of the data set, the experiment and the model (default: the name of PATH)")
    parser.add_argument("--size", metavar="HxW", help="scale and pad all images to this height and width")
    parser.add_argument("--test-share", type=float, help="share to hold out for testing, if the data have no test split")
    parser.add_argument("--dry-run", action="store_true", help="only show how params.yaml would change")
    parser.add_argument("--accept", action="store_true", help="take the data as they are, with what looks wrong")
    sys.exit(console.run_command(parser, run))
