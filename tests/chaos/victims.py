"""Kill stages under DVC, and compare the result with an undisturbed run."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
from ruamel.yaml import YAML

from pipeline.core.paths import TIME_DEPENDENT
from pipeline.promotion import dvc_cache
from tests.chaos.conftest import Chaos
from tests.clones import Clone, clone_with_outputs, git
from tests.conftest import Repository, Split

KIND = "Killed processes"
BEFORE_CHANGE = Path(__file__).parent / "before_change"


class Undisturbed(NamedTuple):
    """An undisturbed run of a stage."""

    seconds: float  # from the start of the stage to the end of DVC
    changes: int  # number of changes to files
    digests: dict[str, str]  # SHA-256 of every output


def clone_of(built: Repository, root: Path, subset: dict[str, Split]) -> Clone:
    """Return a clone in which DVC has every output of `built`."""
    clone = clone_with_outputs(built, root, subset, {})
    commit(clone)
    return clone


def commit(clone: Clone) -> None:
    git(clone.paths.root, "add", "--all")
    git(clone.paths.root, "commit", "--quiet", "--allow-empty", "--message", "Results")


def content(clone: Clone) -> dict[str, str]:
    """Return the SHA-256 of every file in data/: "" for outputs that differ from run to run, "unexpected" for other files."""
    found = {name: "" if name in TIME_DEPENDENT else digest for name, digest in clone.digests().items()}
    outputs = {clone.paths.root / name for name in found}
    others = (file for file in clone.paths.data.rglob("*") if file.is_file() and file not in outputs)
    extra = [file.relative_to(clone.paths.root).as_posix() for file in others if "embedded" not in file.parts]
    return found | {name: "unexpected" for name in extra if not name.endswith(".gitignore")}


def undisturbed(clone: Clone, stage: str) -> Undisturbed:
    """Run `stage` and the stages after it, and record the result."""
    with victim(clone, stage) as dvc:
        start = time.monotonic()
        assert dvc.wait() == 0, output(clone)
        seconds = time.monotonic() - start
    changes = (clone.paths.root / "changes").stat().st_size
    clone.repro()
    commit(clone)
    return Undisturbed(seconds, changes, content(clone))


@contextmanager
def victim(clone: Clone, stage: str, before: int = 0, whole_group: bool = False) -> Iterator["subprocess.Popen[bytes]"]:
    """Start DVC in a new session; yield when it has started `stage`, after removing its entry from dvc.lock."""
    shutil.rmtree(clone.paths.root / ".dvc" / "cache" / "runs", ignore_errors=True)  # otherwise DVC would restore the outputs
    yaml, lock = YAML(typ="safe"), clone.paths.root / "dvc.lock"
    known = yaml.load(lock)
    known["stages"].pop(stage, None)
    yaml.dump(known, lock)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(BEFORE_CHANGE),
        "KILL_STAGE": stage,
        "KILL_BEFORE": str(before),
        "KILL_GROUP": str(int(whole_group)),
        "KILL_LOG": str(clone.paths.root / "changes"),
    }
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", stage]
    with (clone.paths.root / "printed").open("wb") as printed:
        process = subprocess.Popen(
            command, cwd=clone.paths.root, env=environment, stdout=printed, stderr=printed, start_new_session=True
        )
    try:
        while f"> python -m pipeline.{stage}" not in output(clone):
            assert process.poll() is None, output(clone)
            time.sleep(0.01)
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def output(clone: Clone) -> str:
    """Return the output of DVC and of the stage so far."""
    return (clone.paths.root / "printed").read_text(encoding="utf-8")


def kill(dvc: "subprocess.Popen[bytes]", target: str) -> bool:
    """Send SIGKILL to `target`: stage, dvc or everything; return whether it was alive."""
    if target == "everything":
        alive = dvc.poll() is None
        os.killpg(dvc.pid, signal.SIGKILL)
    elif target == "dvc":
        alive = dvc.poll() is None
        dvc.kill()
    else:
        try:
            (stage,) = psutil.Process(dvc.pid).children()
            stage.kill()
            alive = True
        except (psutil.NoSuchProcess, ValueError):
            alive = False
    dvc.wait()
    return alive


def lost(clone: Clone, expected: dict[str, str]) -> list[str]:
    """Return the differences from an undisturbed run in outputs and MLflow store, and leftover temporary files."""
    found = content(clone)
    differing = [name for name in sorted({*found, *expected}) if found.get(name) != expected.get(name)]
    with closing(sqlite3.connect(clone.paths.database)) as store:
        (integrity,) = store.execute("PRAGMA integrity_check").fetchone()
        running = [f"run {run} is RUNNING" for (run,) in store.execute("SELECT run_uuid FROM runs WHERE status = 'RUNNING'")]
    temporary = [path.name for path in clone.paths.store.rglob("*.part*")]
    damaged = [str(path) for path in dvc_cache.damaged(clone.paths.root / ".dvc" / "cache")]
    return differing + temporary + damaged + running + ([] if integrity == "ok" else [integrity])


class Tally:
    """Counts tries, survivals and losses."""

    def __init__(self, name: str) -> None:
        self.rng = random.Random(name)
        self.tries = self.survived = self.lost = self.repaired = 0

    def recover(self, clone: Clone, expected: dict[str, str], moment: str) -> None:
        """Check that `dvc repro` after a fault at `moment` completes everything.

        If DVC was killed while it wrote one of its own files, `dvc repro` fails, and the repair of `make repro` must fix it.
        `repaired` counts these cases.
        """
        done = clone.run("dvc", "repro")
        if done.returncode and clone.run("pipeline.check", "--lock").returncode == 0:
            done, self.repaired = clone.run("dvc", "repro"), self.repaired + 1
        differences, self.tries = lost(clone, expected), self.tries + 1
        self.survived += done.returncode == 0
        self.lost += len(differences)
        if done.returncode or differences:
            print(f"{moment}: exit code {done.returncode}, lost {differences}\n{output(clone)}\n{done.stdout}\n{done.stderr}")


def survive(stage: str, clone: Clone, chaos: Chaos) -> None:
    """Kill the stage at random moments, then just before random changes to files."""
    whole = undisturbed(clone, stage)
    moments, tally = chaos.tries(1, 22), Tally(f"moments of {stage}")
    while tally.tries < moments:
        target, second = tally.rng.choice(["stage", "dvc", "everything"]), tally.rng.uniform(0, whole.seconds)
        with victim(clone, stage) as dvc:
            if not (_wait(dvc, second) and kill(dvc, target)):
                continue  # it had already ended
        tally.recover(clone, whole.digests, f"{target} killed {second:.3f} s after the start of {stage}")
    note = f" ({tally.repaired} as DVC wrote its own file: `make repro`)" if tally.repaired else ""
    chaos.count(KIND, f"SIGKILL at a random moment of {stage}{note}", tally.tries, tally.survived, tally.lost)

    wanted, tally = min(chaos.tries(1, 10), whole.changes), Tally(f"changes of {stage}")
    numbers = iter(tally.rng.sample(range(1, whole.changes + 1), whole.changes))
    while tally.tries < wanted:
        number = next(numbers)
        with victim(clone, stage, before=number, whole_group=tally.rng.random() < 0.5) as dvc:
            if dvc.wait() == 0:
                continue  # this time the stage made fewer changes, because it queried the store less often
        tally.recover(clone, whole.digests, f"killed before change {number} of {whole.changes} of {stage}")
    chaos.count(KIND, f"SIGKILL before a change of files by {stage}", tally.tries, tally.survived, tally.lost)


def _wait(dvc: "subprocess.Popen[bytes]", seconds: float) -> bool:
    """Return whether `dvc` still runs after `seconds`."""
    try:
        dvc.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False
