"""Disks that are full or read-only, and files that are not what they were: one clear error, and what was there stays."""

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
STORED = ["train", "register"]  # that write to the MLflow store
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
    """Two lines, what is wrong and what to do, and nothing that only a programmer reads."""
    lines = done.stderr.splitlines()
    clear = len(lines) == 2 and lines[0].startswith("error: ") and "unexpected" not in lines[0]
    if not clear or done.returncode != 1:
        print(done.returncode, done.stdout, done.stderr)
    return clear and done.returncode == 1


def digests(paths: Paths) -> dict[str, str]:
    """SHA-256 of every file in data/, but for those that differ from run to run, whose names count."""
    found = {file.relative_to(paths.root).as_posix(): file for file in paths.data.rglob("*") if file.is_file()}
    found.pop(f"data/{disks.FILLER}", None)
    return {
        name: "" if name in TIME_DEPENDENT else hashlib.sha256(file.read_bytes()).hexdigest() for name, file in found.items()
    }


def damaged(paths: Paths, stage: str, before: dict[str, str]) -> list[str]:
    """What is other than before, but for outputs of `stage` that are gone."""
    own, after = outputs(STAGES[stage]), digests(paths)
    gone = {name for name in before.keys() - after.keys() if not any(Path(name).is_relative_to(out) for out in own)}
    found = sorted(gone | {name for name in after if after[name] != before.get(name)})
    print(*found, sep="\n")
    return found


def remove(paths: Paths, stage: str) -> None:
    """Remove the outputs of `stage`, as DVC does before it starts one, but for those that it is told to let persist."""
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
def test_a_full_disk_under_data_costs_one_error_and_nothing_else(stage: str, paths: Paths, chaos: Chaos) -> None:
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
            remove(paths, stage)  # first, or what a stage removes of its own would be its room
            with disks.full(paths.data, most // PAGE * PAGE):
                done = run(stage, paths)
            if done.returncode == 0:
                continue  # it was room enough
            tries += 1
            lost += len(damaged(paths, stage, before))
            survived += is_one_clear_error(done)
            most = sum(size(paths.root / out) for out in outputs(STAGES[stage])) or 100 * PAGE
            again = run(stage, paths)
            assert (again.returncode, digests(paths)) == (0, before), again.stderr
    assert tries == wanted
    chaos.count(KIND, f"a full disk under data/ in {stage}", tries, survived, lost)


@pytest.mark.parametrize("stage", STAGES if LONG else ["explain"])
def test_a_read_only_disk_under_data_costs_one_error_and_nothing_else(stage: str, paths: Paths, chaos: Chaos) -> None:
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
def test_a_store_that_takes_nothing_costs_one_error_and_no_files(stage: str, fault: str, paths: Paths, chaos: Chaos) -> None:
    with disks.disk(paths.store):
        before = digests(paths)
        harm: AbstractContextManager[None] = disks.full(paths.store, 0) if fault == "full" else disks.read_only(paths.store)
        with harm:
            done = run(stage, paths)
        lost = len(damaged(paths, stage, before))
        again = run(stage, paths)
        assert (again.returncode, digests(paths)) == (0, before), again.stderr
        with closing(sqlite3.connect(paths.database)) as store:
            assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    chaos.count(KIND, f"a {fault} disk under mlruns/ in {stage}", 1, int(is_one_clear_error(done)), lost)


@pytest.mark.parametrize("stage", STAGES if LONG else ["explain"])
def test_a_folder_for_a_file_and_a_file_for_a_folder_are_one_error_that_names_it(
    stage: str, paths: Paths, chaos: Chaos, tmp_path: Path
) -> None:
    survived = lost = 0
    places = [paths.root / out for out in sorted(outputs(STAGES[stage]))]
    assert run(stage, paths).returncode == 0  # the tree that was built has a stand-in for validate's pages
    before = digests(paths)
    for place in places:
        place.rename(tmp_path / "aside")
        if (tmp_path / "aside").is_dir():
            place.write_text("a file")
        else:
            place.mkdir()
            (place / "kept").touch()
        done = run(stage, paths)
        named = place.relative_to(paths.root).as_posix() in done.stderr.partition("\n")[0]
        survived += is_one_clear_error(done) and named and (place.is_file() or (place / "kept").exists())
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink()
        (tmp_path / "aside").rename(place)
        lost += len(damaged(paths, stage, before))
        if digests(paths) != before:
            assert run(stage, paths).returncode == 0
    chaos.count(KIND, f"a folder in place of a file, or the reverse, in {stage}", len(places), survived, lost)


@pytest.mark.skipif(not LONG, reason="as many files as a clone has")
def test_a_full_disk_under_the_dvc_cache_is_told_and_can_be_made_good(
    built: Repository, tmp_path: Path, subset: dict[str, Split], chaos: Chaos
) -> None:
    """DVC says that it failed, but ends with 0: outputs are whole all the same, and `dvc commit --force` keeps them later."""
    clone = victims.clone_of(built, tmp_path / "clone", subset)
    tries, survived, lost, cache = 3, 0, 0, clone.paths.root / ".dvc" / "cache"
    expected = victims.undisturbed(clone, "fetch").digests
    for number in range(tries):
        shutil.rmtree(cache)
        with disks.disk(cache, f"{number + 1}m"):  # the arrays need three
            with victims.victim(clone, "fetch") as dvc:
                dvc.wait()
            said = victims.output(clone)
            lost += len(victims.lost(clone, expected))
            disks.resize(cache, "64m")
            kept = clone.run("dvc", "commit", "--force", "fetch")
            shutil.rmtree(clone.paths.raw)
            back = clone.run("dvc", "checkout", "fetch")
            survived += "failed to transfer" in said and "Traceback" not in said and kept.returncode == back.returncode == 0
            lost += len(victims.lost(clone, expected))
            print(said, kept.stderr, back.stderr)
    chaos.count(KIND, "a full disk under DVC's cache", tries, survived, lost)


@pytest.mark.skipif(not LONG, reason="runs the pipeline again")
@pytest.mark.parametrize("left", [0, 14_000_000])  # too little for anything; enough for all but the new images
def test_a_turn_of_retraining_ends_where_the_dvc_cache_is_full(
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
            turn = clone.run("pipeline.retrain", "--first")
        print(turn.stdout, turn.stderr)
        survived = turn.returncode == 1 and "Nothing was published" in turn.stderr
        changes = subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=clone.paths.root, check=False).returncode
        shutil.rmtree(clone.paths.retrain)  # its reports
        lost = {name for name, digest in before.items() if victims.content(clone).get(name) != digest}
    print(*sorted(lost))
    chaos.count(KIND, f"a retraining cycle with {left:,} bytes left for DVC's cache", 1, int(survived), len(lost) + changes)


@pytest.mark.skipif(not LONG, reason="runs the pipeline again")
def test_a_clock_that_was_set_back_changes_nothing(
    built: Repository, tmp_path: Path, subset: dict[str, Split], chaos: Chaos
) -> None:
    """Everything that there is was made next year."""
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
