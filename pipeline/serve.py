"""Serve a registered model over HTTP on this machine: images in, probabilities out.

A new champion takes over while the server runs.

Example:
    python -m pipeline.serve --alias challenger --port 5002
"""

import argparse
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pipeline.core import console
from pipeline.core.params import Layout, Params, ServeParams
from pipeline.core.paths import Paths
from pipeline.serving import access, ports, server, workers
from pipeline.serving.access import TOKEN, Access
from pipeline.serving.errors import BusyPortError, NoCheckoutError
from pipeline.serving.model_source import given_file
from pipeline.serving.served_model import ServedModel, open_file

if TYPE_CHECKING:
    from pipeline.tracking.registry import Version

DESCRIPTORS = ("--socket", "--parent", "--ready")  # what workers.py passes to its processes


def run(options: argparse.Namespace, params: Params | None, paths: Paths) -> int:
    names, token = access.credentials(options.host, options.expose)
    bound = bind(options)
    if options.workers > 1 and options.socket is None:
        return workers.Workers(workers.command(sys.argv[1:]), options.workers, bound).run()
    if options.parent is not None:
        workers.end_with_parent(options.parent)
    served, find, said = opened(options, params, paths)
    serve(served, find, f"{said} at http://{options.host}:{options.port}", bound, Access(names, token), options, params)
    return 0


def bind(options: argparse.Namespace) -> socket.socket:
    """The socket to listen on: that of the parent process, or a new one."""
    if options.socket is not None:
        return socket.socket(fileno=options.socket)
    if found := ports.problem(options.port, "serve", options.host):
        raise BusyPortError(found)
    return server.listen(options.host, options.port)


def opened(
    options: argparse.Namespace, params: Params | None, paths: Paths
) -> tuple[ServedModel, Callable[[], "Version | None"] | None, str]:
    """Open the model that the options name; return it, how to look for a newer one, and what to say."""
    if options.model is not None:
        path = given_file(Path(options.model))
        served = open_file(path, options.name or (params.tracking.model if params else path.stem), options.sha256)
        return served, None, f"{options.model} (SHA-256 {served.version}…)"
    if params is None:
        raise NoCheckoutError(f"an ONNX file, or a checkout whose registry has {options.alias}")
    name = params.tracking.model
    from pipeline.serving import champion_watch
    from pipeline.tracking import registry  # importing MLflow takes seconds, so parameters are checked first
    from pipeline.tracking.connection import connected
    from pipeline.tracking.errors import NoVersionError

    for key, value in champion_watch.STORE_SETTINGS.items():
        os.environ.setdefault(key, value)
    with connected(params, paths):
        pinned = registry.numbered(name, options.pin) if options.pin is not None else None
        if options.pin is not None and pinned is None:
            raise NoVersionError(name, f"number {options.pin}", "`make ui` lists the versions.")
        version = pinned or registry.named(name, options.alias)
        served = champion_watch.fetch(version)
    shown = "pinned" if options.pin is not None else options.alias
    find = None if options.pin is not None else lambda: registry.aliased(name, options.alias)
    return served, find, f"{name} version {served.version} ({shown})"


def serve(
    served: ServedModel,
    find: Callable[[], "Version | None"] | None,
    line: str,
    bound: socket.socket,
    checked: Access,
    options: argparse.Namespace,
    params: Params | None,
) -> None:
    """Answer requests until a signal."""
    from pipeline.serving import app, champion_watch
    from pipeline.serving.capture import Capture
    from pipeline.serving.metrics import Metrics
    from pipeline.serving.service import Limits, Service

    bounds, unstated = (params.serve, params.predict.layout) if params else (ServeParams(), None)
    capture = Capture(Path(options.capture), bounds.capture, workers=options.workers) if options.capture else None
    service = Service(served, Limits(bounds.max_bytes), checked, Metrics(), capture, options.layout, unstated)
    watch = champion_watch.Watch(service, find) if find else None
    background = [each for each in (capture, watch) if each is not None]

    def started() -> None:
        if not options.quiet:
            console.echo("serve", f"{line}; Ctrl-C ends it")
        if options.ready is not None:
            os.write(options.ready, b"1")
            os.close(options.ready)

    for each in background:
        each.start()
    try:
        server.run(app.build(service), bound, started)
    except KeyboardInterrupt:  # raised after the open requests are answered
        pass
    finally:
        for each in background:
            each.stop()


def parser() -> argparse.ArgumentParser:
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
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--alias", default="champion", help="version to serve and to follow: champion (default), challenger or previous"
    )
    which.add_argument("--pin", type=int, metavar="VERSION", help="serve this version, whatever is promoted")
    which.add_argument(
        "--model", metavar="FILE", help="serve this ONNX file, or model.onnx in this folder, without the registry"
    )
    parser.add_argument("--sha256", type=console.sha256, metavar="HEX", help="refuse a FILE with another SHA-256")
    parser.add_argument(
        "--name", help="of the model in FILE, for clients (default: tracking.model, or FILE without its suffix)"
    )
    parser.add_argument(
        "--layout",
        choices=get_args(Layout),
        help="of the images that the model was trained on (default: as its contract.json states, or predict.layout)",
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes, each on a core (default: 1)")
    parser.add_argument("--capture", metavar="DIR", help="keep a share of the images asked about (serve.capture)")
    parser.add_argument("--quiet", action="store_true", help=argparse.SUPPRESS)
    for name in DESCRIPTORS:
        parser.add_argument(name, type=int, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(console.run_anywhere(parser(), run))
