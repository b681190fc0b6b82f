"""Owners of runs are recognised by their tags, and called gone only if that is certain."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.core import processes
from pipeline.tracking import run_owner

STORE = Path("mlruns")


def test_tags_identify_the_process_that_owns_a_run() -> None:
    here = run_owner.this_process(STORE)

    assert run_owner.from_tags({**here.tags(), "other": "tag"}) == here
    assert [key.partition(".")[0] for key in here.tags()] == ["mlflow"]  # MLflow's UI does not show it
    assert here.pid == str(os.getpid())
    assert run_owner.from_tags({"runner.host": here.host}) is None
    assert run_owner.from_tags({}) is None
    assert not run_owner.is_gone(here, here)


def test_tags_of_an_earlier_version_are_read() -> None:
    here = run_owner.this_process(STORE)

    assert run_owner.from_tags({f"runner.{name}": value for name, value in here._asdict().items()}) == here


def test_a_killed_process_is_gone_even_while_it_is_a_zombie() -> None:
    code = (
        "import json, pathlib; from pipeline.tracking import run_owner; here = run_owner.this_process(pathlib.Path('mlruns'))"
    )
    command = [sys.executable, "-c", f"{code}; print(json.dumps(here.tags()), flush=True); input()"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    other, here = run_owner.from_tags(json.loads(process.stdout.readline())), run_owner.this_process(STORE)
    assert other is not None

    assert not run_owner.is_gone(other, here)
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert run_owner.is_gone(other, here)
    process.communicate()
    assert run_owner.is_gone(other, here)


def test_owners_are_told_apart_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(run_owner, "_read", lambda _: "")
    monkeypatch.setattr(run_owner, "_namespace", lambda: "")
    here = run_owner.this_process(STORE)

    assert not run_owner.is_gone(here, run_owner.this_process(STORE))
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        other = here._replace(pid=str(process.pid), started=processes.start_time(process.pid) or "")
        assert other.started
        assert not run_owner.is_gone(other, here)
    assert run_owner.is_gone(other, here)


def test_setting_the_clock_does_not_make_a_process_look_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    here, booted = run_owner.this_process(STORE), psutil.boot_time()
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: booted + 3600)

    assert psutil.Process().create_time() > time.time()
    assert not run_owner.is_gone(here, here)


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({"started": "1"}, True),  # another process has this id now
        ({"started": "1", "host": "another"}, False),
        ({"started": "1", "clone": "/another/mlruns"}, False),
        ({"started": "1", "namespace": "pid:[1]"}, False),
        ({"boot": "another", "machine": "this"}, True),
        ({"boot": "another", "machine": "another"}, False),
    ],
)
def test_only_a_process_of_this_checkout_and_machine_can_be_gone(changes: dict[str, str], gone: bool) -> None:
    here = run_owner.this_process(STORE)._replace(machine="this")

    assert run_owner.is_gone(here._replace(**changes), here) is gone


def test_two_machines_without_an_id_count_as_different() -> None:
    here = run_owner.this_process(STORE)._replace(machine="")

    assert not run_owner.is_gone(here._replace(boot="another"), here)
