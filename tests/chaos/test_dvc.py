"""DVC with damaged files, with missing or incomplete remotes, and with locks of other commands."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML

from pipeline.core import files
from pipeline.core.paths import TIME_DEPENDENT, Paths
from pipeline.data.datasets import Split
from pipeline.promotion import dvc_cache
from tests.chaos.conftest import LONG, Chaos
from tests.clones import Clone, borrow_environment, clone_with_outputs, git, ran
from tests.conftest import Repository

RANDOM = random.Random(0)
KIND = "DVC"
QUICK = ("data/explorer",)  # built again in a second


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, built: Repository, subset: dict[str, Split]) -> Clone:
    """A clone in which DVC has every output, like after `dvc repro`."""
    clone = clone_with_outputs(built, tmp_path_factory.mktemp("dvc") / "clone", subset, {})
    borrow_environment(clone.paths.root)
    if LONG:  # these tests damage the Data Docs too, and the built tree only has a placeholder
        for command in (("repro", "--force", "--single-item", "validate"), ("commit", "--force")):
            done = clone.run("dvc", *command)
            assert done.returncode == 0, done.stderr
    git(clone.paths.root, "add", "--all")
    git(clone.paths.root, "commit", "--quiet", "--message", "Results")
    return clone


def locked_hashes(clone: Clone) -> dict[str, str]:
    """Return the MD5 of each output in dvc.lock."""
    stages = YAML(typ="safe").load(clone.paths.root / "dvc.lock")["stages"].values()
    return {out["path"]: out["md5"] for stage in stages for out in stage["outs"]}


def alter(path: Path) -> None:
    """Flip a bit like a failing disk: size, modification time and permissions stay the same."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[RANDOM.randrange(len(content))] ^= 1 << RANDOM.randrange(8)
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(status.st_mode)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def cached_object(clone: Clone, md5: str) -> Path:
    return clone.paths.root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]


def random_file(clone: Clone, out: str) -> Path:
    """Return the output, or a random file in it."""
    path = clone.paths.root / out
    return path if path.is_file() else RANDOM.choice(sorted(file for file in path.rglob("*") if file.is_file()))


LOCATIONS = ["in the cache and the tree", "in the cache", "in the tree"]


@pytest.mark.parametrize("where", LOCATIONS if LONG else LOCATIONS[:1])
def test_a_flipped_bit_is_detected_and_the_file_is_restored(where: str, clone: Clone, chaos: Chaos) -> None:
    by_dvc = [out for out in locked_hashes(clone) if not out.endswith(("parity.json", "metrics.json"))]
    outs = RANDOM.sample(by_dvc, 8) if LONG else QUICK
    survived = 0
    for out in outs:
        file, before = random_file(clone, out), clone.digests()
        cached = cached_object(clone, files.md5(file))
        if where != "in the tree":
            alter(cached)
        if where == "in the tree":
            alter(file)
        elif where != "in the cache":
            file.unlink()
            clone.repro()  # DVC checks out the altered object
        check = clone.run("pipeline.check")
        assert check.returncode == 1, check.stdout
        assert "altered:" in check.stderr
        assert where == "in the tree" or f"{cached.relative_to(clone.paths.root)}" in check.stderr
        assert where == "in the cache" or out in check.stderr
        clone.repro()
        assert cached.exists() or file.relative_to(clone.paths.root).as_posix() in TIME_DEPENDENT
        check = clone.run("pipeline.check")
        assert check.returncode == 0, check.stderr
        after = clone.digests()
        survived += {name for name in before if before[name] != after.get(name)} <= set(TIME_DEPENDENT)

    chaos.count(KIND, f"a flipped bit {where}: `make check` detects it, `dvc repro` restores the file", len(outs), survived)


@pytest.mark.skipif(not LONG, reason="starts DVC several times")
def test_a_truncated_lock_file_is_restored(clone: Clone, chaos: Chaos) -> None:
    clone.repro()
    git(clone.paths.root, "commit", "--quiet", "--all", "--allow-empty", "--message", "Rebuilt")
    lock, before = clone.paths.root / "dvc.lock", clone.digests()
    content, hashes, survived, lost = lock.read_bytes(), locked_hashes(clone), 0, 0
    sizes = (0, *RANDOM.sample(range(len(content)), chaos.tries(0, 12)))  # DVC empties the file before it writes
    for size in sizes:
        # After a cut between two lines, DVC treats the missing entries as new, so the check must run first.
        for repair in ("make repro", f"{sys.executable} -m pipeline.check && {sys.executable} -m dvc repro"):
            lock.write_bytes(content[:size])
            command = ["bash", "-c", repair]
            done = subprocess.run(command, cwd=clone.paths.root, capture_output=True, text=True, check=False)
            survived += (
                done.returncode == 0 and locked_hashes(clone) == hashes
            )  # DVC accepts a lock without the size of the last output
            reran = set(ran(done.stdout)) - {"fetch"}  # its output persists, so it is not in DVC's run cache
            lost += clone.digests() != before or bool(reran)

    chaos.count(
        KIND,
        "a truncated dvc.lock: `make repro`, or `make check` and `dvc repro`, restore it",
        2 * len(sizes),
        survived,
        lost,
    )


@pytest.mark.skipif(not LONG, reason="starts DVC several times")
def test_a_truncated_rwlock_is_removed(clone: Clone, chaos: Chaos) -> None:
    rwlock, content = clone.paths.root / ".dvc/tmp/rwlock", '{"write": {"data/raw": {"pid": 1, "cmd": ""}}}'
    before = clone.digests()
    sizes, survived = (0, *RANDOM.sample(range(1, len(content)), chaos.tries(0, 8))), 0
    for size in sizes:
        rwlock.write_text(content[:size])
        assert "Unable to read RWLock-file" in clone.run("dvc", "repro", "--force", "--single-item", "explain").stderr
        done = subprocess.run(["make", "repro"], cwd=clone.paths.root, capture_output=True, text=True, check=False)
        assert ".dvc/tmp/rwlock was truncated" in done.stdout
        survived += done.returncode == 0 and clone.digests() == before

    chaos.count(KIND, "a truncated .dvc/tmp/rwlock: `make repro` continues", len(sizes), survived)


def test_a_lock_file_with_a_merge_conflict_is_not_changed(clone: Clone, tmp_path: Path) -> None:
    root = tmp_path / "merging"
    shutil.copytree(clone.paths.root, root, symlinks=True)
    lock, merging = root / "dvc.lock", Clone(Paths(root))
    original = lock.read_text()
    for branch, size in (("theirs", "1"), ("-", "2")):
        git(root, "switch", "--quiet", *(["--create", branch] if size == "1" else [branch]))
        lock.write_text(original.replace("size: ", f"size: {size}", 1))
        git(root, "commit", "--quiet", "--all", "--message", branch)
    with suppress(subprocess.CalledProcessError):
        git(root, "merge", "--quiet", "theirs")
    conflict = lock.read_text()
    assert "<<<<<<<" in conflict

    done = merging.run("pipeline.check", "--lock")

    assert done.returncode == 1, done.stdout
    assert lock.read_text() == conflict


@pytest.mark.skipif(not LONG, reason="starts DVC five times for each try")
def test_the_next_push_completes_a_killed_one(clone: Clone, chaos: Chaos, tmp_path: Path) -> None:
    wanted, tries, survived, lost = chaos.tries(1, 20), 0, 0, 0
    command = [sys.executable, "-m", "dvc", "push", "--quiet", "--run-cache", "--remote", "store"]
    for number in count():
        if tries == wanted:
            break
        remote = tmp_path / f"remote-{number}"
        added = clone.run("dvc", "remote", "add", "--local", "--force", "store", str(remote))
        assert added.returncode == 0, added.stderr
        process = subprocess.Popen(command, cwd=clone.paths.root, stderr=subprocess.DEVNULL)
        entries = RANDOM.randint(1, 60)
        while process.poll() is None and len(list(remote.rglob("*"))) < entries:
            time.sleep(0.002)
        process.kill()
        if process.wait() == 0:
            continue  # it had already finished
        tries += 1
        damaged = dvc_cache.damaged(remote)
        # DVC may leave an empty file from its test of links; see the next test.
        lost += len(damaged) - any(path.stat().st_size == 0 for path in damaged)
        done = clone.run("dvc", "push", "--quiet", "--run-cache", "--remote", "store")
        assert done.returncode == 0, done.stderr
        complete = [
            out for out, md5 in locked_hashes(clone).items() if (remote / "files" / "md5" / md5[:2] / md5[2:]).exists()
        ]
        survived += (
            not dvc_cache.damaged(remote) and len(complete) == len(locked_hashes(clone)) - 2
        )  # git stores the other two
    chaos.count(KIND, "SIGKILL of `dvc push`: the next one completes it", tries, survived, lost)


@pytest.mark.skipif(not LONG, reason="starts DVC five times")
def test_an_empty_file_of_a_killed_push_does_not_count_as_the_object(clone: Clone, tmp_path: Path) -> None:
    remote, other, target = tmp_path / "remote", Clone(Paths(tmp_path / "other")), "data/model/model.onnx"
    git(clone.paths.root, "clone", "--quiet", ".", str(other.paths.root))
    for tree in (clone, other):
        added = tree.run("dvc", "remote", "add", "--local", "--force", "store", str(remote))
        assert added.returncode == 0, added.stderr
    md5 = locked_hashes(clone)[target]
    leftover = remote / "files" / "md5" / md5[:2] / md5[2:]
    leftover.parent.mkdir(parents=True)
    leftover.touch()

    pulled = other.run("dvc", "pull", "--remote", "store", target)

    assert pulled.returncode != 0, pulled.stdout
    assert not (other.paths.root / target).exists()
    leftover.touch()
    pushed = clone.run("dvc", "push", "--quiet", "--remote", "store", target)
    assert pushed.returncode == 0, pushed.stderr
    assert files.md5(leftover) == md5


@pytest.mark.skipif(not LONG, reason="starts DVC several times")
def test_a_missing_remote_is_reported_and_blocks_only_push_and_pull(clone: Clone, chaos: Chaos, tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    added = clone.run("dvc", "remote", "add", "--local", "--force", "store", str(tmp_path / "a file" / "remote"))
    assert added.returncode == 0, added.stderr

    (output,) = (out for out in locked_hashes(clone) if out.endswith("summary.txt"))
    cached_object(clone, locked_hashes(clone)[output]).unlink()  # so that pull has a file to download
    results = [clone.run("dvc", command, "--remote", "store") for command in ("push", "pull")]
    assert clone.run("dvc", "commit", "--force", "--quiet").returncode == 0

    assert all(result.returncode != 0 for result in results)
    assert all(str(tmp_path / "a file" / "remote") in result.stderr and "Traceback" not in result.stderr for result in results)
    assert "up to date" in clone.repro()
    chaos.count(KIND, "a missing remote: `dvc push` reports it, `dvc repro` continues", 1, 1)


def wait_for_stage(repro: int) -> None:
    """Wait until this `dvc repro` has started a stage."""
    for _ in range(6000):
        with suppress(psutil.NoSuchProcess):
            if any("pipeline.explain" in child.cmdline() for child in psutil.Process(repro).children(recursive=True)):
                return
        time.sleep(0.01)
    raise AssertionError("no stage was started")


@pytest.mark.skipif(not LONG, reason="starts DVC several times")
def test_a_second_repro_is_refused_and_changes_nothing(clone: Clone, chaos: Chaos) -> None:
    tries, survived, lock = chaos.tries(1, 5), 0, clone.paths.root / "dvc.lock"
    command = [sys.executable, "-m", "dvc", "repro", "--force", "--single-item", "explain"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for _ in range(tries):
        before, pipes = clone.digests(), {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        first = subprocess.Popen(command, cwd=clone.paths.root, env=environment, start_new_session=True, **pipes)
        wait_for_stage(first.pid)
        os.killpg(first.pid, signal.SIGSTOP)
        content = lock.read_bytes()
        lock.write_bytes(content[:-100])  # as if the first command was writing it
        assert clone.run("pipeline.check", "--lock").returncode == 1
        assert lock.read_bytes() == content[:-100]
        lock.write_bytes(content)
        second = clone.run("dvc", "repro", "--force", "--single-item", "explain")
        cycle = clone.run("pipeline.retrain")
        os.killpg(first.pid, signal.SIGCONT)
        assert second.returncode != 0
        assert f"(PID {first.pid})" in second.stderr
        assert cycle.returncode == 1
        assert f"found `dvc repro --force --single-item explain`, process {first.pid}" in cycle.stderr
        survived += first.wait(timeout=120) == 0 and clone.digests() == before

    chaos.count(KIND, "`dvc repro` or a retraining cycle during another `dvc repro`: refused", tries, survived)
