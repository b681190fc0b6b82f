"""Full and read-only disks, folders in place of files, and a wrong clock: one clear error, and no loss of existing files."""

import hashlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.core.paths import TIME_DEPENDENT, Paths
from tests.chaos import disks, victims
from tests.chaos.conftest import LONG, Chaos
from tests.clones import git, ran
from tests.conftest import Repository, Split, edit_params, write_source
from tests.imports import ROOT, outputs

KIND = "Disks"
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
STORED = ["train", "register"]  # they write to the MLflow store
PAGE = 4096


@pytest.fixture(scope="module")
def paths(built: Repository, tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """A tree in which every stage has run."""
    root = tmp_path_factory.mktemp("disks") / "tree"
    shutil.copytree(built.paths.root, root)
    return Paths(root)


def run(stage: str, paths: Paths) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", f"pipeline.{stage}"]
    return subprocess.run(command, cwd=paths.root, env=environment, capture_output=True, text=True, check=False)


def is_one_clear_error(done: "subprocess.CompletedProcess[str]") -> bool:
    """Whether the command failed with two lines: what is wrong and what to do, without a traceback."""
    lines = done.stderr.splitlines()
    clear = len(lines) == 2 and lines[0].startswith("error: ") and "unexpected" not in lines[0]
    if not clear or done.returncode != 1:
        print(done.returncode, done.stdout, done.stderr)
    return clear and done.returncode == 1


def digests(paths: Paths) -> dict[str, str]:
    """Return the SHA-256 of every file in data/; "" for files that differ from run to run."""
    found = {file.relative_to(paths.root).as_posix(): file for file in paths.data.rglob("*") if file.is_file()}
    found.pop(f"data/{disks.FILLER}", None)
    return {
        name: "" if name in TIME_DEPENDENT else hashlib.sha256(file.read_bytes()).hexdigest() for name, file in found.items()
    }


def damaged(paths: Paths, stage: str, before: dict[str, str]) -> list[str]:
    """Return the files that differ from before, except missing outputs of `stage`."""
    own, after = outputs(STAGES[stage]), digests(paths)
    gone = {name for name in before.keys() - after.keys() if not any(Path(name).is_relative_to(out) for out in own)}
    found = sorted(gone | {name for name in after if after[name] != before.get(name)})
    print(*found, sep="\n")
    return found


def remove(paths: Paths, stage: str) -> None:
    """Remove the outputs of `stage`, like DVC before it starts one, except those with `persist`."""
    optional = [entry for entry in STAGES[stage].get("outs", []) if isinstance(entry, dict)]
    kept = {out for entry in optional for out, options in entry.items() if options.get("persist")}
    for out in outputs(STAGES[stage]) - kept:
        path = paths.root / out
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


@pytest.mark.parametrize("stage", STAGES if LONG else ["fetch", "explain"])
def test_a_full_disk_under_data_gives_one_error_and_loses_nothing(stage: str, paths: Paths, chaos: Chaos) -> None:
    rng, wanted = random.Random(stage), chaos.tries(1, 4)
    most = sum(size(paths.root / out) for out in outputs(STAGES[stage]))
    tries = survived = lost = 0
    with disks.disk(paths.data):
        assert run(stage, paths).returncode == 0
        before = digests(paths)
        for _ in range(100):
            if tries == wanted:
                break
            most = rng.randrange(most + 1) if tries else 0
            remove(paths, stage)  # first; otherwise the stage would free this space itself
            with disks.full(paths.data, most // PAGE * PAGE):
                done = run(stage, paths)
            if done.returncode == 0:
                continue  # the space was enough
            tries += 1
            lost += len(damaged(paths, stage, before))
            survived += is_one_clear_error(done)
            most = sum(size(paths.root / out) for out in outputs(STAGES[stage])) or 100 * PAGE
            again = run(stage, paths)
            assert (again.returncode, digests(paths)) == (0, before), again.stderr
    assert tries == wanted
    chaos.count(KIND, f"a full disk under data/ in {stage}", tries, survived, lost)


@pytest.mark.parametrize("stage", STAGES if LONG else ["explain"])
def test_a_read_only_disk_under_data_gives_one_error_and_loses_nothing(stage: str, paths: Paths, chaos: Chaos) -> None:
    with disks.disk(paths.data):
        assert run(stage, paths).returncode == 0
        before = digests(paths)
        with disks.read_only(paths.data):
            done = run(stage, paths)
        assert digests(paths).keys() == before.keys()
        lost = len(damaged(paths, stage, before))
        again = run(stage, paths)
        assert (again.returncode, digests(paths)) == (0, before), again.stderr
    chaos.count(KIND, f"a read-only disk under data/ in {stage}", 1, int(is_one_clear_error(done)), lost)


@pytest.mark.skipif(not LONG, reason="imports TensorFlow and MLflow for each")
@pytest.mark.parametrize("fault", ["full", "read-only"])
@pytest.mark.parametrize("stage", STORED)
def test_a_full_or_read_only_store_gives_one_error_and_loses_nothing(
    stage: str, fault: str, paths: Paths, chaos: Chaos
) -> None:
    with disks.disk(paths.store):
        before = digests(paths)
        fault_of_disk: AbstractContextManager[None] = (
            disks.full(paths.store, 0) if fault == "full" else disks.read_only(paths.store)
        )
        with fault_of_disk:
            done = run(stage, paths)
        lost = len(damaged(paths, stage, before))
        again = run(stage, paths)
        assert (again.returncode, digests(paths)) == (0, before), again.stderr
        with closing(sqlite3.connect(paths.database)) as store:
            assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    chaos.count(KIND, f"a {fault} disk under mlruns/ in {stage}", 1, int(is_one_clear_error(done)), lost)


@pytest.mark.parametrize("stage", STAGES if LONG else ["explain"])
def test_a_folder_in_place_of_a_file_or_the_reverse_gives_one_error_that_names_it(
    stage: str, paths: Paths, chaos: Chaos, tmp_path: Path
) -> None:
    survived = lost = 0
    targets = [paths.root / out for out in sorted(outputs(STAGES[stage]))]
    assert run(stage, paths).returncode == 0  # replaces the report of the built tree, which is not a real one
    before = digests(paths)
    for target in targets:
        target.rename(tmp_path / "aside")
        if (tmp_path / "aside").is_dir():
            target.write_text("a file")
        else:
            target.mkdir()
            (target / "kept").touch()
        done = run(stage, paths)
        named = target.relative_to(paths.root).as_posix() in done.stderr.partition("\n")[0]
        survived += is_one_clear_error(done) and named and (target.is_file() or (target / "kept").exists())
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink()
        (tmp_path / "aside").rename(target)
        lost += len(damaged(paths, stage, before))
        if digests(paths) != before:
            assert run(stage, paths).returncode == 0
    chaos.count(KIND, f"a folder in place of a file, or the reverse, in {stage}", len(targets), survived, lost)


@pytest.mark.skipif(not LONG, reason="copies a clone several times")
def test_a_full_disk_under_the_dvc_cache_is_reported_and_can_be_repaired(
    built: Repository, tmp_path: Path, subset: dict[str, Split], chaos: Chaos
) -> None:
    """DVC reports the failure but exits with 0. The outputs are complete, and `dvc commit --force` caches them later."""
    clone = victims.clone_of(built, tmp_path / "clone", subset)
    tries, survived, lost, cache = 3, 0, 0, clone.paths.root / ".dvc" / "cache"
    expected = victims.undisturbed(clone, "fetch").digests
    for number in range(tries):
        shutil.rmtree(cache)
        with disks.disk(cache, f"{number + 1}m"):  # the arrays need 3 MB
            with victims.victim(clone, "fetch") as dvc:
                dvc.wait()
            printed = victims.output(clone)
            lost += len(victims.lost(clone, expected))
            disks.resize(cache, "64m")
            committed = clone.run("dvc", "commit", "--force", "fetch")
            shutil.rmtree(clone.paths.raw)
            restored = clone.run("dvc", "checkout", "fetch")
            survived += (
                "failed to transfer" in printed
                and "Traceback" not in printed
                and committed.returncode == restored.returncode == 0
            )
            lost += len(victims.lost(clone, expected))
            print(printed, committed.stderr, restored.stderr)
    chaos.count(KIND, "a full disk under DVC's cache", tries, survived, lost)


@pytest.mark.skipif(not LONG, reason="runs the pipeline again")
@pytest.mark.parametrize("left", [0, 14_000_000])  # not enough for anything; enough for all except the new images
def test_a_retraining_cycle_stops_if_the_dvc_cache_is_full(
    left: int, built: Repository, tmp_path: Path, subset: dict[str, Split], mnist: dict[str, Split], chaos: Chaos
) -> None:
    clone = victims.clone_of(built, tmp_path / "clone", subset)
    edit_params(clone.paths.params, {"validate.rows": {"train": [3000, 20_000], "test": [1000, 1000]}})
    clone.repro()
    git(clone.paths.root, "commit", "--quiet", "--all", "--message", "More images")
    write_source(
        tmp_path / "clone-source", {"train": Split(*(array[:20_000] for array in mnist["train"])), "test": subset["test"]}
    )
    before, cache = victims.content(clone), clone.paths.root / ".dvc" / "cache"
    with disks.disk(cache):
        with disks.full(cache, left):
            cycle = clone.run("pipeline.retrain", "--first")
        print(cycle.stdout, cycle.stderr)
        survived = cycle.returncode == 1 and "Nothing was published" in cycle.stderr
        changes = subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=clone.paths.root, check=False).returncode
        shutil.rmtree(clone.paths.retrain)  # its reports
        lost = {name for name, digest in before.items() if victims.content(clone).get(name) != digest}
    print(*sorted(lost))
    chaos.count(KIND, f"a retraining cycle with {left:,} bytes left for DVC's cache", 1, int(survived), len(lost) + changes)


@pytest.mark.skipif(not LONG, reason="runs the pipeline again")
def test_a_clock_set_back_by_a_year_changes_nothing(
    built: Repository, tmp_path: Path, subset: dict[str, Split], chaos: Chaos
) -> None:
    """All files and runs have times of next year."""
    clone, year = victims.clone_of(built, tmp_path / "clone", subset), 365 * 86400
    expected = victims.undisturbed(clone, "validate").digests
    for path in (path for path in clone.paths.root.rglob("*") if ".git" not in path.parts):
        found = path.stat()
        os.utime(path, (found.st_atime + year, found.st_mtime + year))
    with closing(sqlite3.connect(clone.paths.database)) as store, store:
        later = f"+ {year * 1000}"
        store.execute(f"UPDATE runs SET start_time = start_time {later}, end_time = end_time {later}")
        store.execute(f"UPDATE model_versions SET creation_time = creation_time {later}")
    untouched = ran(clone.repro()) == []
    again = ran(clone.repro("--force")) == list(STAGES)
    with closing(sqlite3.connect(clone.paths.database)) as store:
        (newest,) = store.execute("SELECT max(version) FROM model_versions").fetchone()
        (challenger,) = store.execute("SELECT version FROM registered_model_aliases WHERE alias = 'challenger'").fetchone()
    survived = untouched and again and int(challenger) == newest
    chaos.count(KIND, "a clock set back by a year", 1, int(survived), len(victims.lost(clone, expected)))
