"""How a verb starts, prints, shows progress on a terminal, and ends: errors are printed without a traceback."""

import argparse
import errno
import io
import logging
import os
import re
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from tqdm import tqdm

from pipeline.core import files, params, signals, versions
from pipeline.core.errors import MissingPackageError, PipelineError
from pipeline.core.params import Params
from pipeline.core.paths import Paths

Stage = Callable[[Params, Paths], str]
Command = Callable[[argparse.Namespace, Params, Paths], int]
Anywhere = Callable[[argparse.Namespace, Params | None, Paths], int]

DEBUG = "PIPELINE_DEBUG"
INTERRUPTED = signals.EXIT
CLOSED_PIPE = 128 + signal.SIGPIPE  # the shells' convention

_DISK = (errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC)  # errors of writing; they do not name the file
_REMEDIES = dict.fromkeys((errno.EISDIR, errno.ENOTDIR, errno.EEXIST), "Move the existing file or folder away and rerun.")

_START = time.monotonic()


def echo(stage: str, text: str) -> None:
    print(f"{stage:<9} {text}", flush=True)


def parser(verb: str, doc: str | None) -> argparse.ArgumentParser:
    """The command line of a verb; `--help` shows its module docstring `doc`, with the command as it was called."""
    module = f"python -m pipeline.{verb}"
    called = sys.argv[0] if sys.argv[0].endswith(f" {verb}") else module  # by pipeline/__main__.py
    description = (doc or "").replace(module, called)
    return argparse.ArgumentParser(prog=called, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def sha256(text: str) -> str:
    """The type of an option --sha256. An empty value, as from an unset variable, would check nothing."""
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError(f"expected 64 hexadecimal digits, found {text or 'none'}; no model was opened")
    return text


def run_stage(name: str, run: Stage, doc: str | None = None) -> int:
    """Run a stage on params.yaml and the tree in the current folder, print its result, and return the exit code.

    Exit codes: 0 success, 1 an error that you can fix, 2 wrong arguments, 130 interrupted (Ctrl-C, SIGTERM or SIGHUP),
    141 nobody reads the output any more.
    `--debug`, or PIPELINE_DEBUG=1 where DVC writes the command line, shows tracebacks and the libraries' log lines.
    """

    def act(paths: Paths) -> int:
        echo(name, f"{run(params.load(paths.params), paths)} · {time.monotonic() - _START:.1f} s")
        if running := versions.mismatches(versions.locked(paths)):
            echo(name, f"warning: ran with {', '.join(running)}; `make setup` installs the locked versions")
        return 0

    def run_guarded() -> int:
        debug = _parse(parser(name, doc)).debug
        return _guarded(f"{name} interrupted; `dvc repro` continues from here.", act, debug, bounded=True)

    return _printing(run_guarded)


def run_command(parser: argparse.ArgumentParser, act: Command) -> int:
    """Run a command with its own options, as `run_stage` runs a stage. The command prints its results itself.

    Returns what `act` returns, or an exit code of `run_stage`. An interrupted command takes the time that it needs to end.
    """

    def run_guarded() -> int:
        options = _parse(parser)
        return _guarded("interrupted.", lambda paths: act(options, params.load(paths.params), paths), options.debug, False)

    return _printing(run_guarded)


def run_anywhere(parser: argparse.ArgumentParser, act: Anywhere) -> int:
    """Run a command that needs no checkout. If the current folder has no params.yaml, `act` gets None for its content."""
    if os.path.lexists(Paths().params):
        return run_command(parser, act)

    def run_guarded() -> int:
        options = _parse(parser)
        return _guarded("interrupted.", lambda paths: act(options, None, paths), options.debug, False, checkout=False)

    return _printing(run_guarded)


def _printing(act: Callable[[], int]) -> int:
    """Call `act` on a console of any encoding. If the reader of its output is gone, as with `| head`, end quietly."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file name may be no text, and a console may show no more than ASCII
            stream.reconfigure(errors="replace")
    try:
        try:
            return act()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        nowhere = os.open(os.devnull, os.O_WRONLY)  # for what is still in buffers
        os.dup2(nowhere, sys.stdout.fileno())
        os.dup2(nowhere, sys.stderr.fileno())
        return CLOSED_PIPE


def _reader_is_gone() -> bool:
    """Whether stdout or stderr is a pipe that nobody reads any more: POLLERR on Linux, POLLHUP on macOS."""
    outputs = select.poll()
    for stream in (1, 2):
        outputs.register(stream, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in outputs.poll(0))


def _parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    parser.add_argument("--debug", action="store_true", help="show tracebacks and the libraries' log lines")
    return parser.parse_args()


def _guarded(interrupted: str, act: Callable[[Paths], int], debug: bool, bounded: bool, checkout: bool = True) -> int:
    """Call `act`, and turn what ends it into an exit code. Outside a checkout, what lies in the folder is somebody else's."""
    debug = debug or os.environ.get(DEBUG, "0") not in ("", "0")
    paths = Paths()
    discard: Callable[[], None] = partial(_discard_parts, paths) if checkout else lambda: None
    if checkout and (refusal := paths.refusal()):
        print(f"error: {refusal}", file=sys.stderr)
        return 1
    try:
        with signals.last(discard):
            signals.start(interrupted, bounded)
            if not debug:
                _quieten()
            discard()
            return act(paths)
    except KeyboardInterrupt:
        discard()
        print(f"\n{interrupted}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        signals.stop()
        if debug or (isinstance(error, BrokenPipeError) and _reader_is_gone()):
            raise
        print(f"error: {_explain(error)}", file=sys.stderr)
        return 1
    finally:
        signals.stop()


def _discard_parts(paths: Paths) -> None:
    files.discard_parts(paths.data)
    files.discard_parts(paths.store, deep=False)  # temporary files are at the top; the artifacts below are many


def _explain(error: Exception) -> str:
    if isinstance(error, PipelineError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("pipeline."):
        return str(MissingPackageError(error.name))
    if isinstance(error, OSError) and (error.filename or error.errno in _DISK):
        remedy = _REMEDIES.get(error.errno or 0, "Fix the permissions or free disk space, and rerun.")
        return (
            f"{error.filename2 or error.filename or 'the disk'}: expected to read or write it, found: {error.strerror}.\n"
            f"Complete files are unchanged. {remedy}"
        )
    found = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
    return f"unexpected {found}\nThis is a bug in the pipeline: {DEBUG}=1 shows the traceback."


def _quieten() -> None:
    """Hide the warnings and log lines of libraries. Their errors are still raised."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


def progress(description: str, unit: str, **options: Any) -> "tqdm[Any]":
    """A progress bar on stderr, only on a terminal; it disappears when it is complete."""
    return tqdm(desc=description, unit=unit, disable=None, leave=False, dynamic_ncols=True, **options)
