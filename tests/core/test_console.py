import argparse
import errno
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core import console, files, signals
from pipeline.core.console import DEBUG, Stage
from pipeline.core.errors import MissingInputError, PipelineError
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.training import tensorflow_setup
from tests.conftest import Edit
from tests.imports import ROOT


@pytest.fixture(autouse=True)
def command(edit: Edit, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A tree and a command line without arguments. Restore the process-wide settings of run_stage afterwards."""
    monkeypatch.setattr(sys, "argv", ["tiny"])
    monkeypatch.delenv(DEBUG, raising=False)
    disabled = logging.root.manager.disable
    with warnings.catch_warnings():
        yield
    logging.disable(disabled)


def failing(error: BaseException) -> Stage:
    def run(params: Params, paths: Paths) -> str:
        raise error

    return run


def works(params: Params, paths: Paths) -> str:
    return f"trained {params.train.epochs} epochs"


def test_a_result_is_printed_in_one_line_with_its_duration(edit: Edit, capsys: pytest.CaptureFixture[str]) -> None:
    edit({"train.epochs": 3})

    assert console.run_stage("tiny", works) == 0

    out, err = capsys.readouterr()
    assert re.fullmatch(r"tiny      trained 3 epochs · \d+\.\d s\n", out)
    assert err == ""


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (PipelineError("data: expected x, found y.\nFix it."), ["error: data: expected x, found y.", "Fix it."]),
        (
            MissingInputError(Path("data/raw/manifest.json")),
            [
                "error: data/raw/manifest.json: expected this file from an earlier stage, found none.",
                "Nothing was written. `dvc repro` creates it.",
            ],
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "data/raw"),
            [
                "error: data/raw: expected to read or write it, found: Permission denied.",
                "Complete files are unchanged. Fix the permissions or free disk space, and rerun.",
            ],
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            [
                "error: the disk: expected to read or write it, found: No space left on device.",
                "Complete files are unchanged. Fix the permissions or free disk space, and rerun.",
            ],
        ),
        (
            KeyError("epochs"),
            [
                "error: unexpected KeyError: 'epochs'",
                "This is a bug in the pipeline: PIPELINE_DEBUG=1 shows the traceback.",
            ],
        ),
        (
            ModuleNotFoundError("No module named 'dvc'", name="dvc"),
            [
                "error: dvc: expected this package, found none.",
                "Nothing more was done. In a checkout, run `make setup`. Elsewhere, install the wheel with the extra that "
                "brings it: `pip install 'WHEEL[train]'`.",
            ],
        ),
        (
            RuntimeError("first line\nsecond line\nthird line"),
            [
                "error: unexpected RuntimeError: first line",
                "This is a bug in the pipeline: PIPELINE_DEBUG=1 shows the traceback.",
            ],
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_prints_its_message_and_exits_with_1(
    error: Exception, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert console.run_stage("tiny", failing(error)) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == lines


def test_an_invalid_parameter_stops_a_stage_before_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    Path("params.yaml").write_text("train: 1")

    assert console.run_stage("tiny", failing(AssertionError("the stage ran"))) == 1

    assert "train: expected keys with values, found 1" in capsys.readouterr().err


def test_debug_raises_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["tiny", "--debug"])

    with pytest.raises(PipelineError, match="message"):
        console.run_stage("tiny", failing(PipelineError("message")))


@pytest.mark.parametrize(("value", "raises"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_an_environment_variable_turns_debug_on(value: str, raises: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEBUG, value)

    try:
        raised = console.run_stage("tiny", failing(PipelineError("message"))) != 1
    except PipelineError:
        raised = True

    assert raised == raises


def test_library_messages_show_only_in_debug(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def run(params: Params, paths: Paths) -> str:
        warnings.warn("a warning", stacklevel=1)
        os.write(2, f"log lines: {logging.getLogger('library').isEnabledFor(logging.WARNING)}\n".encode())
        return "done"

    console.run_stage("tiny", run)
    assert capfd.readouterr().err == "log lines: False\n"

    logging.disable(logging.NOTSET)
    monkeypatch.setattr(sys, "argv", ["tiny", "--debug"])
    with pytest.warns(UserWarning, match="a warning"):
        console.run_stage("tiny", run)
    assert capfd.readouterr().err == "log lines: True\n"


@pytest.mark.parametrize("arguments", [["epochs=3"], ["--debug", "-x", "y"]])
def test_an_unknown_argument_exits_with_2(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tiny", *arguments])

    with pytest.raises(SystemExit) as ended:
        console.run_stage("tiny", failing(AssertionError("the stage ran")))

    unknown = " ".join(argument for argument in arguments if argument != "--debug")
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: unrecognized arguments: {unknown}\n")


def test_control_c_prints_one_line_and_exits_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert console.run_stage("tiny", failing(KeyboardInterrupt())) == 130

    assert capsys.readouterr().err == "\ntiny interrupted; `dvc repro` continues from here.\n"


def test_a_command_defines_its_arguments_and_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser(prog="tiny")
    parser.add_argument("--epochs", type=int)
    monkeypatch.setattr(sys, "argv", ["tiny", "--epochs", "3"])

    def act(options: argparse.Namespace, params: Params, paths: Paths) -> int:
        console.echo("tiny", f"{options.epochs} epochs, seed {params.train.seed}")
        return options.epochs

    assert console.run_command(parser, act) == 3
    assert capsys.readouterr().out == "tiny      3 epochs, seed 0\n"


def test_a_failed_command_prints_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["tiny"])

    def act(options: argparse.Namespace, params: Params, paths: Paths) -> int:
        raise PipelineError("message")

    assert console.run_command(argparse.ArgumentParser(prog="tiny"), act) == 1

    assert capsys.readouterr().err == "error: message\n"


def test_leftovers_of_a_killed_process_beside_the_store_are_removed_and_artifacts_are_kept() -> None:
    with subprocess.Popen(["true"]) as dead:
        pass
    store = Paths().store
    names = [f".mlflow.{dead.pid}.part.db", f".mlflow.{dead.pid}.part.db-journal", f".mlflow.db.{dead.pid}.part.before-move"]
    kept = [store / name for name in ("artifacts/.a.1.part", f"artifacts/.b.{dead.pid}.part.png", "mlflow.db.0123.bak")]
    for path in (*(store / name for name in names), *kept):
        files.write_text(path, "text")

    assert console.run_stage("tiny", lambda params, paths: "done") == 0

    assert sorted(path for path in store.rglob("*") if path.is_file()) == sorted(kept)


def test_a_command_that_needs_no_checkout_gets_the_parameters_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["tiny"])
    found: list[Params | None] = []

    def act(options: argparse.Namespace, params: Params | None, paths: Paths) -> int:
        found.append(params)
        return 0

    with subprocess.Popen(["true"]) as dead:
        pass
    left = Path("data") / f".a.{dead.pid}.part"
    files.write_text(left, "text")
    content = Path("params.yaml").read_bytes()
    Path("params.yaml").unlink()

    assert console.run_anywhere(argparse.ArgumentParser(prog="tiny"), act) == 0
    assert left.exists()  # the folder is somebody else's
    Path("params.yaml").write_bytes(content)
    assert console.run_anywhere(argparse.ArgumentParser(prog="tiny"), act) == 0
    assert not left.exists()
    Path("params.yaml").write_text("train: 1")
    assert console.run_anywhere(argparse.ArgumentParser(prog="tiny"), act) == 1

    assert [params and params.train.seed for params in found] == [None, 0]


INTERRUPTED = "\ntiny interrupted; `dvc repro` continues from here.\n"
SIGNUMS = [signal.SIGTERM, signal.SIGINT]
STAGE = """
import hashlib, os, signal, sys, time
from pathlib import Path
from pipeline.core import console, files, signals

def run(params, paths):
    with files.replacing(paths.onnx) as part, signals.last(lambda: print("run ended", flush=True)):
        part.touch()
        try:
            print("ready", os.getpid(), flush=True)
            {at}
        finally:
            print("cleaned up", flush=True)

signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore SIGINT in background jobs
sys.exit(console.run_stage("tiny", run))
"""
NATIVE = "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"  # about 15 minutes in which Python runs no signal handler
SWALLOWING = """
            try:
                time.sleep(60)
            except BaseException:
                time.sleep(60)
"""


FRAGILE = """
            with signals.fragile():
                try:
                    time.sleep(60)
                finally:
                    print("raised", flush=True)
"""


AT_ONCE = """
            sys.stdin.readline()  # until the test reads the output
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
            signal.raise_signal(signal.SIGINT)  # to this thread; kill may pick one that does not block it
            signal.raise_signal(signal.SIGTERM)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGTERM])
            time.sleep(60)
"""


def start(at: str, **environment: str) -> "subprocess.Popen[str]":
    """Start a stage, and return when it has reached the statement `at`."""
    process = subprocess.Popen(
        [sys.executable, "-c", STAGE.format(at=at)],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == f"ready {process.pid}\n"
    return process


@pytest.mark.parametrize("signum", [*SIGNUMS, signal.SIGHUP])
def test_after_a_signal_a_stage_cleans_up_and_exits_with_130(signum: signal.Signals) -> None:
    with start("time.sleep(60)") as process:
        process.send_signal(signum)
        process.send_signal(signum)  # as if Ctrl-C were pressed twice
        out, err = process.communicate(timeout=30)

    assert process.returncode == 130
    assert out == "cleaned up\n"
    assert err == INTERRUPTED


@pytest.mark.parametrize("signum", SIGNUMS)
@pytest.mark.parametrize("at", [NATIVE, SWALLOWING, FRAGILE], ids=["native", "swallowing", "fragile"])
def test_a_stage_that_cannot_handle_a_signal_exits_anyway(at: str, signum: signal.Signals) -> None:
    with start(at) as process:
        time.sleep(0.3)  # until the statement runs
        process.send_signal(signum)
        out, err = process.communicate(timeout=30)

    assert process.returncode == 130
    assert out == "run ended\n"
    assert err == INTERRUPTED
    assert not list(Path("data/model").iterdir())


def test_two_signals_at_once_are_one_interruption() -> None:
    with start(AT_ONCE) as process:
        out, err = process.communicate("send\n", timeout=30)

    assert (process.returncode, out, err) == (130, "cleaned up\n", INTERRUPTED)


def test_a_command_that_finishes_a_query_first_is_interrupted_by_a_second_signal() -> None:
    signals.start("interrupted.", bounded=False)
    signals.hold()
    try:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(signals.Interrupted):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signals.release()


def test_an_interruption_inside_exec_exits_with_130() -> None:
    with start("exec('time.sleep(60)')") as process:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)

    assert (process.returncode, err) == (130, INTERRUPTED)


@pytest.mark.parametrize(
    ("signum", "name"),
    [(signal.SIGTERM, "-m"), (signal.SIGINT, "-m"), (signal.SIGHUP, "-m"), (signal.SIGINT, "/bin/mnist-pipeline")],
)
def test_a_signal_during_the_first_imports_prints_one_line(signum: signal.Signals, name: str) -> None:
    enable = "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"  # as in STAGE
    send = f"{enable}; sys.argv = [{name!r}]; import pipeline; os.kill(os.getpid(), {signum})"

    done = subprocess.run([sys.executable, "-c", send], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (130, "\ninterrupted before the start.\n")


ASCII = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
NAMED = """
import os, sys
from pipeline.core import console
from pipeline.core.errors import PipelineError

name = os.fsdecode(b"caf\\xe9 \\xe2\\x9c\\x93.png")  # Latin-1, then UTF-8

def run(params, paths):
    console.echo("tiny", f"read {name}")
    if "fail" in os.environ:
        raise PipelineError(f"{name}: expected an image")
    return f"wrote {name}"

sys.exit(console.run_stage("tiny", run, f"Reads {name}"))
"""


@pytest.mark.parametrize(("settings", "shown"), [(ASCII, "caf? ???.png"), ({"PYTHONIOENCODING": "utf-8"}, "caf? \u2713.png")])
def test_what_a_console_cannot_show_is_replaced_and_the_work_goes_on(settings: dict[str, str], shown: str) -> None:
    def run(*arguments: str, **more: str) -> "subprocess.CompletedProcess[bytes]":
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | settings | more
        command = [sys.executable, "-c", NAMED, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, check=False)

    done, failed, helped = run(), run(fail="1"), run("--help")

    assert (done.returncode, failed.returncode, helped.returncode) == (0, 1, 0), done.stderr
    assert re.fullmatch(
        rf"tiny      read {re.escape(shown)}\ntiny      wrote {re.escape(shown)} .* \d\.\d s\n", done.stdout.decode()
    )
    assert failed.stderr.decode() == f"error: {shown}: expected an image\n"
    assert f"Reads {shown}" in helped.stdout.decode()


PRINTING = """
import os, sys
from pipeline.core import console

def run(params, paths):
    sys.stdin.readline()  # until the reader of the output has gone
    {at}
    return "done"

sys.exit(console.run_stage("tiny", run, "text"))
"""


def without_reader(at: str, *arguments: str, both: bool = False) -> tuple[int, str]:
    """The exit code and the errors of a stage that runs the statement `at` when nobody reads its output (and errors)."""
    reading, writing = os.pipe()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"} | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", PRINTING.format(at=at), *arguments],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=writing,
        stderr=writing if both else subprocess.PIPE,
        text=True,
    ) as process:
        os.close(reading)
        os.close(writing)
        _, err = process.communicate("go\n", timeout=30)
    return process.returncode, err or ""


@pytest.mark.parametrize("at", ["console.echo('tiny', 'line')", "print('in the buffer')", "pass"])
def test_a_verb_whose_reader_is_gone_ends_quietly_as_by_sigpipe(at: str) -> None:
    assert without_reader(at) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize("at", ["raise ValueError", "raise KeyboardInterrupt"])
def test_an_error_that_nobody_reads_ends_quietly_as_by_sigpipe(at: str) -> None:
    assert without_reader(at, both=True) == (128 + signal.SIGPIPE, "")


def test_a_socket_that_nobody_reads_ends_quietly_too() -> None:
    """It reports POLLHUP alone, as a pipe does on macOS."""
    ours, theirs = socket.socketpair()
    with subprocess.Popen(
        [sys.executable, "-c", PRINTING.format(at="print('line')")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        ours.close()
        theirs.close()
        _, err = process.communicate("go\n", timeout=30)

    assert (process.returncode, err) == (128 + signal.SIGPIPE, "")


def test_help_that_nobody_reads_ends_quietly_as_by_sigpipe() -> None:
    assert without_reader("pass", "--help") == (128 + signal.SIGPIPE, "")


def test_the_closed_pipe_of_another_program_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert console.run_stage("tiny", failing(BrokenPipeError(errno.EPIPE, "Broken pipe"))) == 1

    assert capsys.readouterr().err.startswith("error: unexpected BrokenPipeError")


def test_a_stage_exits_when_dvc_dies() -> None:
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {STAGE.format(at='time.sleep(60)')!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", parent],
        env=os.environ | {"PYTHONPATH": str(ROOT), "DVC_STAGE": "tiny"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as dvc:
        assert dvc.stdout is not None
        assert dvc.stdout.readline().startswith("ready")
        dvc.kill()
        out, err = dvc.communicate(timeout=30)  # until the stage has closed the pipes too

    assert out == "cleaned up\n"
    assert err == INTERRUPTED


def test_a_stage_removes_the_leftovers_of_a_killed_one(capsys: pytest.CaptureFixture[str]) -> None:
    with start("time.sleep(60)") as process:
        leftovers = list(Path("data/model").iterdir())
        process.kill()
    assert leftovers == [Path(f"data/model/.model.{process.pid}.part.onnx")] == list(Path("data/model").iterdir())

    assert console.run_stage("tiny", works) == 0

    assert not list(Path("data/model").iterdir())


def test_native_output_is_suppressed(capfd: pytest.CaptureFixture[str]) -> None:
    with tensorflow_setup.native_output_held():
        os.write(2, b"noise")
    os.write(2, b"after")

    assert capfd.readouterr().err == "after"


def test_native_output_is_shown_on_failure(capfd: pytest.CaptureFixture[str]) -> None:
    def fail_noisily() -> None:
        with tensorflow_setup.native_output_held():
            os.write(2, b"noise")
            raise ValueError("fault")

    with pytest.raises(ValueError, match="fault"):
        fail_noisily()

    assert capfd.readouterr().err == "noise"


def test_progress_is_hidden_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with console.progress("train", "epoch", total=2) as bar:
        bar.update(2)

    assert capfd.readouterr() == ("", "")
