"""Serve a registered model over HTTP on this machine: pixels in, probabilities out.

Example:
    python -m pipeline.serve --alias challenger --port 5002
"""

import argparse
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.core import console
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.inference.onnx_model import INPUT, OnnxModel
from pipeline.serving import middleware, ports
from pipeline.serving.errors import BusyPortError, ExposedError
from pipeline.serving.middleware import Guard
from pipeline.tracking.errors import NoVersionError

TOKEN = "SERVE_TOKEN"  # environment variable that holds the token  # noqa: S105 - a name, no secret
_SHORTEST = 16  # characters; shorter tokens can be guessed


def credentials(host: str, expose: str) -> tuple[tuple[str, ...], str]:
    """Return the host names that requests may use, and the token that they need: none if only this machine is served.

    Raises:
        ExposedError: the server would listen beyond this machine without names or a token.
    """
    if host == ports.HOST:
        return middleware.LOCAL, ""
    names, token = tuple(name.strip().lower() for name in expose.split(",") if name.strip()), os.environ.get(TOKEN, "")
    if not names:
        raise ExposedError(host, "--expose and the host names of the server", "none")
    if len(token) < _SHORTEST:
        raise ExposedError(host, f"a token of at least {_SHORTEST} characters in {TOKEN}", f"one of {len(token)}")
    return names, token


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    names, token = credentials(options.host, options.expose)
    if found := ports.problem(options.port, "serve", options.host):
        raise BusyPortError(found)
    import uvicorn

    from pipeline.serving import scoring_app
    from pipeline.tracking import registry  # importing MLflow takes seconds, so parameters are checked first
    from pipeline.tracking.connection import connected

    name = params.tracking.model
    with connected(params, paths), TemporaryDirectory(prefix="serve-") as folder:
        version = registry.aliased(name, options.alias)
        if version is None:
            raise NoVersionError(
                name, options.alias, "`make promote` names a champion; `make serve ALIAS=challenger` serves that."
            )
        onnx, _ = registry.download(version, Path(folder))
        shape = OnnxModel(onnx).image_shape  # refuses any other kind of model before MLflow opens it
        app = scoring_app.scoring_app(onnx.parent)
    guarded = Guard(app, INPUT, shape, params.serve.max_bytes, names, token)
    console.echo(
        "serve", f"{name} version {version.number} ({options.alias}) at http://{options.host}:{options.port}; Ctrl-C ends it"
    )
    try:
        uvicorn.run(guarded, host=options.host, port=options.port, log_level="error", server_header=False)
    except KeyboardInterrupt:  # raised after the open requests are answered
        return 0
    return 0


if __name__ == "__main__":
    parser = console.parser("serve", __doc__)
    parser.add_argument("--port", type=int, default=5001, help="port to listen on (default: 5001)")
    parser.add_argument(
        "--host", default=ports.HOST, help="listen on this address; needs --expose (default: this machine only)"
    )
    parser.add_argument(
        "--expose",
        default="",
        metavar="NAMES",
        help=f"host names that clients use, separated by commas; {TOKEN} holds the token",
    )
    parser.add_argument("--alias", default="champion", help="version to serve: champion (default), challenger or previous")
    sys.exit(console.run_command(parser, run))
