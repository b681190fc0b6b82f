"""Select which served images to label, and write them to data/selected/.

A random part measures how good the champion is today. An informative part teaches: the images of which the champion is least
sure, without near-duplicates. Images that are labelled already, or nearly the same as one that is, are not selected again.
`make label` shows the selection. Select among images that were served since the last selection.

Example:
    python -m pipeline.select captured/ --informative 100 --random 100
"""

import argparse
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from pipeline.core import console
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data.idx import Pixels
from pipeline.monitoring import answers, captured, champion, collected, selected, selection
from pipeline.monitoring.champion import Champion
from pipeline.monitoring.errors import NothingToSelectError, UnfinishedSelectionError
from pipeline.monitoring.selected import Part, Selection


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    with selected.exclusive(paths):
        if given := answers.count(paths.selected / selected.ANSWERS):
            raise UnfinishedSelectionError(paths.selected, given)
        model = champion.find(params, paths)
        images = captured.read(Path(options.source), model.model.image_shape, params)
        chosen = choose(images, model, options, params, paths)
        selected.write(chosen, paths)
    known, counts = chosen.about["known"], Counter(chosen.parts)
    console.echo("select", f"{model.name}: {len(images):,} images, {known:,} labelled already or nearly the same")
    counted = f"{counts['random']:,} random and {counts['informative']:,} informative images"
    console.echo("select", f"{counted}: `make label` shows them")
    return 0


def choose(images: Pixels, model: Champion, options: argparse.Namespace, params: Params, paths: Paths) -> Selection:
    """Choose images for both parts, in an order that mixes them.

    Raises:
        NothingToSelectError: all images are labelled.
    """
    known = collected.labelled(paths, model.model.image_shape)
    probabilities = model.model.predict(images)
    radius = params.validate_.near_duplicate_distance
    chosen = selection.choose(images, probabilities, known, options.random, options.informative, radius)
    rows = np.concatenate([chosen.random, chosen.informative])
    if not len(rows):
        raise NothingToSelectError(options.source, len(images))
    parts: dict[int, Part] = {**dict.fromkeys(chosen.random, "random"), **dict.fromkeys(chosen.informative, "informative")}
    rows = rows[selected.in_random_order(selected.identifiers(images[rows]))]
    about = {
        "model": model.name,
        "onnx_sha256": model.sha256,
        "source": options.source,
        "selected": datetime.now(UTC).isoformat(timespec="seconds"),
        "images": len(images),
        "known": chosen.known,
    }
    return Selection(
        images[rows],
        probabilities[rows],
        selected.identifiers(images[rows]),
        tuple(parts[row] for row in rows),
        params.fetch.classes,
        about,
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) > 100_000:
        raise argparse.ArgumentTypeError(f"expected a number of images, 0 to 100,000, found {text}; nothing was selected")
    return int(text)


if __name__ == "__main__":
    parser = console.parser("select", __doc__)
    parser.add_argument(
        "source", help="what `serve --capture` keeps: Parquet; or npy, npz, IDX or image files, or a folder of such files"
    )
    parser.add_argument("--informative", type=_count, default=100, metavar="N", help="images that teach (default: 100)")
    parser.add_argument("--random", type=_count, default=100, metavar="N", help="images that measure (default: 100)")
    sys.exit(console.run_command(parser, run))
