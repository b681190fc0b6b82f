"""Ctrl-C and SIGTERM at any moment of any stage: it exits in two seconds with a message, and leaves nothing incomplete."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML

from pipeline.core import processes
from tests.chaos import victims
from tests.chaos.conftest import LONG, Chaos
from tests.chaos.victims import KIND
from tests.clones import Clone
from tests.conftest import Repository, Split
from tests.imports import ROOT

STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
LIMIT = 2  # seconds
LINES = ["interrupted before the start.", "{} interrupted; `dvc repro` continues from here."]


@pytest.fixture(scope="module")
def clone(built: Repository, tmp_path_factory: pytest.TempPathFactory, subset: dict[str, Split]) -> Clone:
    return victims.clone_of(built, tmp_path_factory.mktemp("interrupts") / "clone", subset)


def start(clone: Clone, stage: str) -> "subprocess.Popen[str]":
    """Start the stage, and return once it handles SIGTERM. Before that, a signal ends it like any Python program."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"pipeline.{stage}"],
        cwd=clone.paths.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        (caught,) = (line for line in status.read_text().splitlines() if line.startswith("SigCgt"))
        if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            break
        time.sleep(0.002)
    return process


def finish(clone: Clone) -> None:
    """Mark every run as FINISHED, as an undisturbed `register` does, so that the effect of an interruption shows."""
    with closing(sqlite3.connect(clone.paths.database, timeout=20)) as store, store:
        store.execute("UPDATE runs SET status = 'FINISHED' WHERE status = 'KILLED'")


def statuses(clone: Clone) -> list[str]:
    """The statuses of all runs in the store, oldest first."""
    with closing(sqlite3.connect(clone.paths.database, timeout=20)) as store:
        return [status for (status,) in store.execute("SELECT status FROM runs ORDER BY start_time")]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("stage", STAGES if LONG else [])
def test_a_signal_ends_a_stage_in_two_seconds(stage: str, clone: Clone, chaos: Chaos) -> None:
    expected = victims.content(clone)
    begun = time.monotonic()
    _, err = (undisturbed := start(clone, stage)).communicate()
    assert undisturbed.returncode == 0, err
    duration, rng, wanted = time.monotonic() - begun, random.Random(stage), chaos.tries(1, 12)
    tries = survived = lost = 0
    while tries < wanted:
        signum, second = rng.choice([signal.SIGINT, signal.SIGTERM]), rng.uniform(0, duration)
        finish(clone)
        runs, process = len(statuses(clone)), start(clone, stage)
        if stage == "register" and tries % 2:  # it uses MLflow only at its end
            second = rng.uniform(0, 0.3)
            while process.poll() is None and "RUNNING" not in statuses(clone):
                time.sleep(0.005)
        time.sleep(second)
        resumed = "RUNNING" in statuses(clone)
        begun = time.monotonic()
        process.send_signal(signum)
        out, err = process.communicate()
        seconds = time.monotonic() - begun
        if "·" in out or process.returncode == 0:
            continue  # it had finished
        tries += 1
        left = [path.name for folder in (clone.paths.data, clone.paths.store) for path in folder.rglob(".*.part*")]
        after = statuses(clone)
        # register resumes one of the earlier runs. If it was doing so, that run must be KILLED now; otherwise it may be.
        touched = sorted(status for status in after[:runs] if status != "FINISHED")
        ended = after[runs:] in ([], ["KILLED"]) and touched in ([], ["KILLED"])
        ended = ended and (not resumed or "KILLED" in after)
        clear = err.strip() in [line.format(stage) for line in LINES]
        survived += process.returncode == 130 and clear and ended and seconds < LIMIT
        lost += len(left)
        print(f"{signum.name} {second:.3f} s after the start: {seconds:.2f} s, {process.returncode}, {after}")
        print(left, err)
    clone.repro()
    lost += len(victims.lost(clone, expected))
    chaos.count(KIND, f"SIGINT or SIGTERM to {stage}", tries, survived, lost)


@pytest.mark.skipif(not LONG, reason="trains many times")
def test_control_c_to_dvc_ends_training_in_two_seconds(clone: Clone, chaos: Chaos) -> None:
    whole, rng, tries, survived, lost = victims.undisturbed(clone, "train"), random.Random("dvc"), 0, 0, 0
    while tries < 10:
        second = rng.uniform(0.3, whole.seconds)
        with victims.victim(clone, "train") as dvc:
            time.sleep(second)
            stages = psutil.Process(dvc.pid).children() if dvc.poll() is None else []
            begun = time.monotonic()
            for signum in (signal.SIGINT, *([signal.SIGTERM] if rng.random() < 0.3 else [])):
                with suppress(ProcessLookupError):  # DVC may have exited meanwhile
                    os.killpg(dvc.pid, signum)
            while (alive := any(processes.is_alive(stage.pid) for stage in stages)) and time.monotonic() - begun < 20:
                time.sleep(0.005)  # a zombie counts as dead: without DVC, init may be slow to reap it
            seconds = time.monotonic() - begun
            dvc.wait()
        output = victims.output(clone)
        if not stages or "·" in output:
            continue  # it had finished
        tries += 1
        clear = any(line.format("train") in output for line in LINES) and "Traceback" not in output
        survived += dvc.returncode != 0 and clear and not alive and seconds < LIMIT and "RUNNING" not in statuses(clone)
        print(f"{second:.3f} s after the start: {seconds:.2f} s, {dvc.returncode}, {output}")
        clone.repro()
        lost += len(victims.lost(clone, whole.digests))
    chaos.count(KIND, "Ctrl-C to dvc repro in train", tries, survived, lost)
