"""Label the selected images on a page on this machine, and make a data set of the answers.

Every answer is saved at once. Finishing on the page writes data/collected/NAME.npz, lets DVC track it, lists it in
`fetch.extra` and measures the champion's accuracy on the random part. `--from` makes a data set of files that are labelled
already.

Example:
    python -m pipeline.label --port 5003
    python -m pipeline.label --from labelled/
"""

import argparse
import os
import shutil
import signal
import socket
import sys
import threading
import webbrowser
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.core import console
from pipeline.core.errors import PipelineError
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.monitoring import collected, labelled, live_accuracy, selected
from pipeline.monitoring.answers import Answers
from pipeline.monitoring.label_app import LabelApp
from pipeline.monitoring.selected import Selection
from pipeline.promotion.repository import Repository
from pipeline.serving import ports, server
from pipeline.serving.errors import BusyPortError


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    with selected.exclusive(paths):
        if options.labelled is not None:
            found = labelled.from_source(Path(options.labelled), params, paths)
            name = collected.free_name(params, paths, datetime.now(UTC).date())
            echo(measured(labelled.publish(name, found, tracker(paths), paths), params, paths))
        else:
            serve(options.port, params, paths)
    return 0


def serve(port: int, params: Params, paths: Paths) -> None:
    """Serve the page until it is finished, or until a signal."""
    selection = selected.read(paths)
    if problem := ports.problem(port, "label"):
        raise BusyPortError(problem)
    answers = Answers(paths.selected / selected.ANSWERS, selection.ids, selection.classes)
    finished: list[dict[str, Any]] = []

    def finish(selection: Selection, answers: Answers) -> dict[str, Any]:
        found = labelled.from_answers(selection, answers, paths)
        written = labelled.publish(labelled.name_of_selection(params, paths), found, tracker(paths), paths)
        shutil.rmtree(paths.selected)
        finished.append(measured(written, params, paths))
        return finished[0]

    def started() -> None:
        progress, address = answers.progress(), f"http://{ports.HOST}:{port}"
        console.echo("label", f"{progress['left']:,} of {progress['images']:,} images to label at {address}; Ctrl-C ends it")
        if on_desktop():
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    app = LabelApp(selection, answers, finish, lambda: os.kill(os.getpid(), signal.SIGTERM))
    bound: socket.socket = server.listen(ports.HOST, port)
    with suppress(KeyboardInterrupt):  # raised after the open requests are answered
        server.run(app.build(), bound, started)
    if finished:
        echo(finished[0])
    else:
        progress = answers.progress()
        console.echo(
            "label", f"{progress['labelled']:,} label(s) saved, {progress['left']:,} image(s) left: `make label` goes on"
        )


def on_desktop() -> bool:
    """Whether somebody at a screen started this."""
    screen = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(screen) and sys.stdout.isatty()


def tracker(paths: Paths) -> labelled.Track:
    """How DVC comes to track a file."""

    def track(path: Path) -> None:
        Repository(paths.root).dvc("add", "--quiet", path.relative_to(paths.root).as_posix())

    return track


def measured(written: dict[str, Any], params: Params, paths: Paths) -> dict[str, Any]:
    """Add the champion's accuracy on the new random part, if there is one. The set is complete, whatever goes wrong here."""
    from pipeline.core import params as all_params

    written["live_accuracy"] = None
    if written["random"]:
        try:
            report = live_accuracy.measure(all_params.load(paths.params), paths)
            if report is not None:
                written["live_accuracy"] = report
                live_accuracy.log(report, params, paths)
        except PipelineError as error:
            written["problem"] = str(error)
    return written


def echo(written: dict[str, Any]) -> None:
    """Print what was written, the images left out, and what to do next."""
    parts = [f"{written[key]:,} {key}" for key in ("informative", "random", "undivided") if written[key]]
    console.echo("label", f"{written['file']}: {', '.join(parts)} images, listed in fetch.extra as {written['set']}")
    if written["other"]:
        console.echo(
            "label", f"{written['other']:,} images are of none of the classes; they are kept apart, and not trained on"
        )
    for each in written["conflicts"]:
        console.echo("label", f"left out {each['id']}: labelled differently, {' and '.join(each['answers'])}")
    if report := written.get("live_accuracy"):
        console.echo("live", f"{report['model']}: {live_accuracy.sentence(report)}")
    if problem := written.get("problem"):
        console.echo("live", f"warning: the champion was not measured: {problem}")
    console.echo("label", "`make retrain` commits this and learns from it")


if __name__ == "__main__":
    parser = console.parser("label", __doc__)
    parser.add_argument("--port", type=int, default=5003, help="port to listen on (default: 5003)")
    parser.add_argument(
        "--from", dest="labelled", metavar="SOURCE", help="files that are labelled already, in any layout of fetch"
    )
    sys.exit(console.run_command(parser, run))
