import argparse
import errno
import logging
import os
import re
import signal
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
    """A tree and a command line without arguments; what run_stage sets for its process is put back."""
    monkeypatch.setattr(sys, "argv", ["tiny"])
    monkeypatch.delenv(DEBUG, raising=False)
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers, disabled = [signal.getsignal(number) for number in numbers], logging.root.manager.disable
    with warnings.catch_warnings():
        yield
    signal.set_wakeup_fd(-1)
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)
    logging.disable(disabled)


def failing(error: BaseException) -> Stage:
    def run(params: Params, paths: Paths) -> str:
        raise error

    return run


def works(params: Params, paths: Paths) -> str:
    return f"trained {params.train.epochs} epochs"


def test_a_result_is_one_line_with_the_time_it_took(edit: Edit, capsys: pytest.CaptureFixture[str]) -> None:
    edit({"train.epochs": 3})

    assert console.run_stage("tiny", works) == 0

    out, err = capsys.readouterr()
    assert re.fullmatch(r"tiny      trained 3 epochs · \d+\.\d s\n", out)
    assert err == ""


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (PipelineError("data: expected x, found y.\nMend it."), ["error: data: expected x, found y.", "Mend it."]),
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
            RuntimeError("first line\nsecond line\nthird line"),
            [
                "error: unexpected RuntimeError: first line",
                "This is a bug in the pipeline: PIPELINE_DEBUG=1 shows the traceback.",
            ],
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_is_its_own_lines_and_exit_code_1(
    error: Exception, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert console.run_stage("tiny", failing(error)) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == lines


def test_a_wrong_parameter_ends_a_stage_before_it_starts(capsys: pytest.CaptureFixture[str]) -> None:
    Path("params.yaml").write_text("train: 1")

    assert console.run_stage("tiny", failing(AssertionError("the stage ran"))) == 1

    assert "train: expected keys with values, found 1" in capsys.readouterr().err


def test_debug_raises_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["tiny", "--debug"])

    with pytest.raises(PipelineError, match="as it is"):
        console.run_stage("tiny", failing(PipelineError("as it is")))


@pytest.mark.parametrize(("value", "raises"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_the_environment_switches_debug_on(value: str, raises: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEBUG, value)

    try:
        raised = console.run_stage("tiny", failing(PipelineError("as it is"))) != 1
    except PipelineError:
        raised = True

    assert raised == raises


def test_libraries_are_heard_in_debug_only(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
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
def test_an_unknown_argument_is_exit_code_2(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tiny", *arguments])

    with pytest.raises(SystemExit) as ended:
        console.run_stage("tiny", failing(AssertionError("the stage ran")))

    unknown = " ".join(argument for argument in arguments if argument != "--debug")
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: unrecognized arguments: {unknown}\n")


def test_control_c_is_one_line_and_exit_code_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert console.run_stage("tiny", failing(KeyboardInterrupt())) == 130

    assert capsys.readouterr().err == "\ntiny interrupted; `dvc repro` continues from here.\n"


def test_a_command_has_arguments_and_an_exit_code_of_its_own(
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


def test_a_command_ends_in_one_line_when_something_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tiny"])

    def act(options: argparse.Namespace, params: Params, paths: Paths) -> int:
        raise PipelineError("as it is")

    assert console.run_command(argparse.ArgumentParser(prog="tiny"), act) == 1

    assert capsys.readouterr().err == "error: as it is\n"


def test_what_a_kill_left_beside_the_store_is_removed_and_artifacts_are_not_looked_through() -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    store = Paths().store
    names = [f".mlflow.{gone.pid}.part.db", f".mlflow.{gone.pid}.part.db-journal", f".mlflow.db.{gone.pid}.part.before-move"]
    kept = [store / name for name in ("artifacts/.a.1.part", f"artifacts/.b.{gone.pid}.part.png", "mlflow.db.0123.bak")]
    for path in (*(store / name for name in names), *kept):
        files.write_text(path, "text")

    assert console.run_stage("tiny", lambda params, paths: "done") == 0

    assert sorted(path for path in store.rglob("*") if path.is_file()) == sorted(kept)


INTERRUPTED = "\ntiny interrupted; `dvc repro` continues from here.\n"
NUMBERS = [signal.SIGTERM, signal.SIGINT]
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

signal.signal(signal.SIGINT, signal.default_int_handler)  # shells switch Ctrl-C off for what runs in the background
sys.exit(console.run_stage("tiny", run))
"""
NATIVE = "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"  # a quarter of an hour in which no handler runs
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
            sys.stdin.readline()  # what is printed from now on is for the test to read
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
            signal.raise_signal(signal.SIGINT)  # to this thread, whereas kill may choose another, which blocks none
            signal.raise_signal(signal.SIGTERM)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGTERM])
            time.sleep(60)
"""


def start(at: str, **environment: str) -> "subprocess.Popen[str]":
    """A stage that is at the statement `at` when this returns."""
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


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_lets_a_stage_clean_up_and_is_exit_code_130(number: signal.Signals) -> None:
    with start("time.sleep(60)") as process:
        process.send_signal(number)
        process.send_signal(number)  # as impatient people do
        out, err = process.communicate(timeout=30)

    assert process.returncode == 130
    assert out == "cleaned up\n"
    assert err == INTERRUPTED


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("at", [NATIVE, SWALLOWING, FRAGILE], ids=["native", "swallowing", "fragile"])
def test_a_stage_that_does_not_take_a_signal_ends_all_the_same(at: str, number: signal.Signals) -> None:
    with start(at) as process:
        time.sleep(0.3)  # until it is within
        process.send_signal(number)
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


def test_an_interruption_out_of_an_exec_is_exit_code_130_too() -> None:
    with start("exec('time.sleep(60)')") as process:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)

    assert (process.returncode, err) == (130, INTERRUPTED)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_amid_the_first_imports_is_one_line(number: signal.Signals) -> None:
    switch_on = "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"  # as for STAGE
    send = f"{switch_on}; sys.argv = ['-m']; import pipeline; os.kill(os.getpid(), {number})"

    done = subprocess.run([sys.executable, "-c", send], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (130, "\ninterrupted before the start.\n")


def test_a_stage_ends_when_dvc_is_gone() -> None:
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
        out, err = dvc.communicate(timeout=30)  # until the stage, too, has closed them

    assert out == "cleaned up\n"
    assert err == INTERRUPTED


def test_what_a_killed_stage_left_is_gone_after_the_next(capsys: pytest.CaptureFixture[str]) -> None:
    with start("time.sleep(60)") as process:
        left = list(Path("data/model").iterdir())
        process.kill()
    assert left == [Path(f"data/model/.model.{process.pid}.part.onnx")] == list(Path("data/model").iterdir())

    assert console.run_stage("tiny", works) == 0

    assert not list(Path("data/model").iterdir())


def test_native_output_is_held_back(capfd: pytest.CaptureFixture[str]) -> None:
    with tensorflow_setup.native_output_held():
        os.write(2, b"noise")
    os.write(2, b"after")

    assert capfd.readouterr().err == "after"


def test_native_output_is_shown_when_something_fails(capfd: pytest.CaptureFixture[str]) -> None:
    def fail_noisily() -> None:
        with tensorflow_setup.native_output_held():
            os.write(2, b"noise")
            raise ValueError("fault")

    with pytest.raises(ValueError, match="fault"):
        fail_noisily()

    assert capfd.readouterr().err == "noise"


def test_progress_is_silent_where_nobody_watches(capfd: pytest.CaptureFixture[str]) -> None:
    with console.progress("train", "epoch", total=2) as bar:
        bar.update(2)

    assert capfd.readouterr() == ("", "")
