"""Who runs a run: known again by its tags, and gone only where that is sure."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.tracking import run_owner

STORE = Path("mlruns")


def test_a_process_is_known_again_by_the_tags_of_its_run() -> None:
    here = run_owner.this_process(STORE)

    assert run_owner.of({**here.tags(), "other": "tag"}) == here
    assert here.pid == str(os.getpid())
    assert run_owner.of({"runner.host": here.host}) is None
    assert not run_owner.is_gone(here, here)


def test_a_process_that_was_killed_is_gone_whether_its_parent_has_noticed_or_not() -> None:
    code = (
        "import json, pathlib; from pipeline.tracking import run_owner; here = run_owner.this_process(pathlib.Path('mlruns'))"
    )
    command = [sys.executable, "-c", f"{code}; print(json.dumps(here.tags()), flush=True); input()"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    other, here = run_owner.of(json.loads(process.stdout.readline())), run_owner.this_process(STORE)
    assert other is not None

    assert not run_owner.is_gone(other, here)
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert run_owner.is_gone(other, here)
    process.communicate()
    assert run_owner.is_gone(other, here)


@pytest.mark.parametrize(
    ("told", "gone"),
    [
        ({"started": "1"}, True),  # another process has its id now
        ({"started": "1", "host": "another"}, False),
        ({"started": "1", "clone": "/another/mlruns"}, False),
        ({"started": "1", "namespace": "pid:[1]"}, False),
        ({"boot": "another", "machine": "this"}, True),
        ({"boot": "another", "machine": "another"}, False),
    ],
)
def test_only_a_process_of_this_checkout_on_this_machine_is_known_to_be_gone(told: dict[str, str], gone: bool) -> None:
    here = run_owner.this_process(STORE)._replace(machine="this")

    assert run_owner.is_gone(here._replace(**told), here) is gone


def test_two_machines_without_a_name_are_not_taken_for_one() -> None:
    here = run_owner.this_process(STORE)._replace(machine="")

    assert not run_owner.is_gone(here._replace(boot="another"), here)
