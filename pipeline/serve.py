"""Serve a registered model on this machine by MLflow's scoring server: pixels in, probabilities out."""

import argparse
import sys

from pipeline.core import console, ports
from pipeline.core.errors import BusyPortError, NoVersionError
from pipeline.core.guard import Guard
from pipeline.core.inference import INPUT
from pipeline.core.params import Params
from pipeline.core.paths import Paths


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    if found := ports.problem(options.port, "serve"):
        raise BusyPortError(found)
    import uvicorn

    from pipeline.core import registry, tracking  # MLflow takes seconds: after the parameters have proved right

    name = params.tracking.model
    with tracking.answering(paths):
        tracking.connect(params, paths)
        version = registry.aliased(name, options.alias)
        if version is None:
            raise NoVersionError(
                name, options.alias, "`make promote` names a champion; `make serve ALIAS=challenger` serves that."
            )
        app, shape = registry.scoring_app(version)
    guarded = Guard(app, INPUT, shape, params.serve.max_bytes)
    console.say(
        "serve", f"{name} version {version.number} ({options.alias}) at http://{ports.HOST}:{options.port}; Ctrl-C ends it"
    )
    try:
        uvicorn.run(guarded, host=ports.HOST, port=options.port, log_level="error", server_header=False)
    except KeyboardInterrupt:  # raised once it has answered what was under way
        return 0
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m pipeline.serve", description=__doc__)
    parser.add_argument("--port", type=int, default=5001)
    parser.add_argument("--alias", default="champion", help="which version: champion, challenger or previous")
    sys.exit(console.run_command(parser, run))
