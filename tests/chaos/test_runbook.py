"""docs/runbook.md: cause each fault, compare its message with the recipe, run the recipe's commands, check the result."""

import argparse
import io
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import numpy as np
import onnx
import pytest

from pipeline import evaluate, promote, register, remote, ui
from pipeline.core import files
from pipeline.core import params as parameters
from pipeline.core.errors import PipelineError
from pipeline.core.params import Params
from pipeline.core.paths import TIME_DEPENDENT, Paths
from pipeline.data.datasets import Split
from pipeline.inference import convert
from tests.chaos.conftest import LONG, Chaos
from tests.clones import Clone, borrow_environment, git, make_clone, stamp_environment
from tests.conftest import Repository, edit_params
from tests.imports import ROOT
from tests.test_promote import LOW, slightly_different
from tests.web import closed

RUNBOOK = ROOT / "docs" / "runbook.md"


class Recipe(NamedTuple):
    title: str
    messages: list[str]  # what the fault prints
    commands: str
    output: list[str]  # what the commands print


def read(text: str) -> list[Recipe]:
    """The recipes. Each section has one block of commands with their output, and may have one block with a message."""
    recipes = []
    for section in re.split(r"(?m)^## ", text)[1:]:
        title = section.partition("\n")[0]
        fences = re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", section)
        blocks = dict(fences)
        assert sorted(kind for kind, _ in fences) in (["console"], ["console", "text"]), f"{title}: one block of each kind"
        lines = blocks.get("console", "").splitlines()
        commands = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        output = [line for line in lines if not line.startswith("$ ")]
        recipes.append(Recipe(title, blocks.get("text", "").splitlines(), "\n".join(commands), output))
    return recipes


# Each of the others takes a minute, and other tests of `make test` cause most of their faults.
RECIPES = {recipe.title: recipe for recipe in read(RUNBOOK.read_text(encoding="utf-8"))}


def missing(expected: list[str], printed: str) -> list[str]:
    """The expected lines that were not printed; `...` matches anything."""
    patterns = {line: ".*".join(re.escape(part) for part in line.split("...")) for line in expected}
    return [line for line, pattern in patterns.items() if not re.search(f"(?m)^{pattern}", printed)]


@dataclass
class Site:
    """A checkout of a published pipeline with a champion and a previous champion."""

    root: Path

    @property
    def paths(self) -> Paths:
        os.environ.pop("MLFLOW_TRACKING_URI", None)  # MLflow sets it to the last store that this process used
        return Paths(self.root)

    @property
    def params(self) -> Params:
        return parameters.load(self.paths.params)

    def environment(self) -> dict[str, str]:
        """The environment of a user, with the checkout's `.venv` first on the path, and the variables that the recipes use."""
        variables = {"COPY": str(self.paths.root.with_name("checkout-source")), "NEW": "new-secret"}
        path = f"{self.root / '.venv' / 'bin'}:{os.environ['PATH']}"
        return os.environ | variables | {"PATH": path, "COLUMNS": "200"}

    def bash(self, commands: str, code: int = 0) -> str:
        """Run the commands, check their exit code, and return their output."""
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", commands],
            cwd=self.root,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def start(self, *module: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", *module]
        outputs: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=self.root, env=self.environment(), start_new_session=True, **outputs)

    def promote(self, **options: bool) -> str:
        """Return the output of `python -m pipeline.promote`. Runs in this process, which has already imported MLflow."""
        arguments = {
            "first": False,
            "check": False,
            "tag": False,
            "verify": False,
            "history": False,
            "require": None,
        } | options
        return output_of(lambda: promote.run(argparse.Namespace(**arguments), self.params, self.paths))

    def assert_consistent(self, version: int, tag: str) -> None:
        expected = f"version {version} is champion, and alias, file, run and record agree; so does git tag {tag}"
        assert expected in self.promote(verify=True)

    def version(self, alias: str = "champion") -> Any:
        return mlflow.MlflowClient(self.paths.tracking_uri).get_model_version_by_alias("mnist-dense", alias)

    def digests(self) -> dict[str, str]:
        return {name: sha for name, sha in Clone(self.paths).digests().items() if name not in TIME_DEPENDENT}

    def remote_refs(self) -> str:
        """The branches and tags of the remote repository."""
        return self.bash("git ls-remote origin")

    def assert_champion_works(self) -> None:
        """Check that the champion has the plots of the files, and that its model predicts."""
        run_id = self.version().run_id
        mlflow.set_tracking_uri(self.paths.tracking_uri)
        assert mlflow.get_run(run_id).info.artifact_uri.startswith(self.paths.store.as_uri())
        plot = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="plots/worst_mistakes.png")
        assert Path(plot).read_bytes() == (self.paths.plots / "worst_mistakes.png").read_bytes()
        model = mlflow.pyfunc.load_model("models:/mnist-dense@champion")
        assert model.predict({"image": np.zeros((1, 28, 28), np.uint8)})["probabilities"].shape == (1, 10)


def output_of(command: Callable[[], Any]) -> str:
    """Return what a command prints, including its error message."""
    with redirect_stdout(io.StringIO()) as printed:
        try:
            command()
        except PipelineError as error:
            return f"{printed.getvalue()}error: {error}"
    return printed.getvalue()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, built: Repository, subset: dict[str, Split]) -> Site:
    """A site with two champions, committed, tagged and pushed, and a backup after the first. Copy it before you change it."""
    folder = tmp_path_factory.mktemp("site")
    site = Site(folder / "checkout")
    make_clone(site.root, subset, LOW | {"export.int8_agreement": 0.5})
    borrow_environment(site.root)
    git(folder, "init", "--quiet", "--bare", "origin.git")
    remote.run(argparse.Namespace(url=str(folder / "store")), site.params, site.paths)
    for command in ("config user.name tester", "config user.email tester@localhost", "remote add origin ../origin.git"):
        git(site.root, *command.split())
    shutil.copytree(built.paths.root / "data", site.root / "data", dirs_exist_ok=True)
    _alter(site.paths.onnx)
    onnx.save(convert.quantize(onnx.load(site.paths.onnx), subset["train"].images), site.paths.int8)
    _publish(site)
    site.bash(RECIPES["Back up the tracking store"].commands)
    for path in (site.paths.onnx, site.paths.int8):
        shutil.copy(built.paths.root / path.relative_to(site.root), path)
    edit_params(site.paths.params, {"export.int8_agreement": 0.9})
    _publish(site)
    site.assert_consistent(2, "v1.1.0")
    return site


def _alter(path: Path) -> None:
    """Change the weights slightly, which gives another model with the same accuracy."""
    import onnx

    proto = onnx.load(path)
    kernel = max(proto.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    changed = slightly_different(onnx.numpy_helper.to_array(kernel)).astype(np.float32)
    kernel.CopyFrom(onnx.numpy_helper.from_array(changed, kernel.name))
    onnx.save(proto, path)


def _publish(site: Site) -> None:
    with redirect_stdout(io.StringIO()):
        register.run(site.params, site.paths)
    site.bash("dvc commit --force && git add --all && git commit --quiet --message Results")
    site.bash("git push --quiet --set-upstream origin HEAD")
    site.promote(tag=True, first=True)
    site.bash("dvc push --quiet && git push --quiet --follow-tags origin HEAD")


Fault = Callable[[Site], Iterator[str]]
FAULTS: dict[str, Fault] = {}


def fault(title: str) -> Callable[[Fault], Fault]:
    """Register a generator for a recipe: it causes the fault, yields the message, and checks the state after the recipe."""

    def add(cause: Fault) -> Fault:
        FAULTS[title] = cause
        return cause

    return add


@pytest.mark.skipif(not LONG, reason="copies a published pipeline for each recipe")
@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_shows_the_message_of_its_fault_and_fixes_the_fault(
    title: str, site: Site, tmp_path: Path, chaos: Chaos
) -> None:
    recipe, tries = RECIPES[title], chaos.tries(1, 2)
    assert recipe.commands, "the recipe has no commands"
    for number in range(tries):
        copy = Site(shutil.copytree(site.root.parent, tmp_path / str(number), symlinks=True) / "checkout")
        stamp_environment(copy.root)
        fault_and_check: Any = FAULTS[title](copy)
        message = next(fault_and_check)
        assert not missing(recipe.messages, message), message
        output = copy.bash(recipe.commands)
        assert not missing(recipe.output, output), output
        with suppress(StopIteration):
            fault_and_check.send(output)
    chaos.count("Runbook", title, tries, tries)


def test_each_recipe_has_a_fault() -> None:
    assert FAULTS.keys() == RECIPES.keys()


def test_missing_lists_the_lines_that_were_not_printed() -> None:
    assert missing(["error: ... none did:"], "x\nerror: images: none did:\n") == []
    assert missing(["none did:", "... is busy"], "error: none did:") == ["none did:", "... is busy"]


@fault("A stale lock")
def stale_lock(site: Site) -> Iterator[str]:
    before, lock = site.digests(), site.root / ".dvc" / "tmp" / "rwlock"
    show_holder = RECIPES["A stale lock"].commands.splitlines()[0]
    process = site.start("dvc", "repro", "--force", "--single-item", "explain")
    _wait_for(f'"pid": {process.pid}', lock, process)
    os.killpg(process.pid, signal.SIGSTOP)  # while it holds the lock
    assert "dvc repro --force" in site.bash(show_holder)  # DVC is still running
    held = lock.read_text()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert "had been killed. Auto removed it from the lock file." in site.bash("dvc status explain")
    other = subprocess.Popen(["sleep", "600"])  # stands for a process that got the same id
    try:
        lock.write_text(held.replace(f'"pid": {process.pid}', f'"pid": {other.pid}'))
        output = yield site.bash("dvc repro --force --single-item explain", code=255)
    finally:
        other.kill()
        other.wait()
    assert "sleep 600" in output
    assert site.digests() == before


def _wait_for(text: str, lock: Path, process: "subprocess.Popen[str]") -> None:
    """Wait until the lock contains `text`. DVC writes the file in place, so it may be incomplete."""
    while not lock.is_file() or text not in (held := lock.read_text()) or not held.endswith("}}"):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)


@fault("Roll back the champion")
def unwanted_champion(site: Site) -> Iterator[str]:
    yield site.promote(history=True)
    assert (site.version().version, site.version("previous").version) == (1, 2)


@fault("A bad model was published")
def bad_model(site: Site) -> Iterator[str]:
    yield site.promote(verify=True)
    site.assert_consistent(1, "v1.0.0")
    assert "mnist-dense#champion#3" in site.remote_refs()
    assert site.remote_refs().split()[0] == site.bash("git rev-parse HEAD").strip()
    assert site.bash("git diff --stat mnist-dense@v1.0.0 HEAD") == ""
    assert files.sha256(site.paths.onnx) == site.version().tags["onnx_sha256"]
    assert "withdrawn" in site.version("previous").tags


@fault("The champion was deleted in MLflow")
def deleted_champion(site: Site) -> Iterator[str]:
    mlflow.MlflowClient(site.paths.tracking_uri).delete_model_version("mnist-dense", "2")
    yield site.promote(verify=True)
    site.assert_consistent(3, "v1.1.0")
    site.assert_champion_works()


@fault("All mirrors are down")
def mirrors_down(site: Site) -> Iterator[str]:
    before = site.digests()
    text = site.paths.params.read_text()
    down = "".join(f"    - {closed().replace('http:', 'https:')}{name}/\n" for name in ("one", "two"))
    site.paths.params.write_text(re.sub(r"(?m)^  sources:.*\n(?: +- .*\n)+", f"  sources:  # in order\n{down}", text))
    yield site.bash("dvc repro", code=255)
    assert site.params.fetch.sources[0] == "data/offline/"
    assert site.digests() == before


@fault("Back up the tracking store")
def store_in_use(site: Site) -> Iterator[str]:
    with closing(sqlite3.connect(site.paths.database)) as store:
        (runs,) = store.execute("SELECT count(*) FROM runs").fetchone()
    shutil.rmtree(site.root.parent / "backup")
    stop, client = threading.Event(), mlflow.MlflowClient(site.paths.tracking_uri)
    writing = threading.Thread(target=_write, args=(client, stop))
    writing.start()
    try:
        yield ""
    finally:
        stop.set()
        writing.join()
    with closing(sqlite3.connect(site.root.parent / "backup" / "mlflow.db")) as backup:
        assert backup.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert backup.execute("SELECT count(*) FROM runs").fetchone()[0] >= runs
    kept = site.root.parent / "backup" / "artifacts"
    assert {path.relative_to(kept) for path in kept.rglob("*")} == {
        path.relative_to(site.paths.store / "artifacts") for path in (site.paths.store / "artifacts").rglob("*")
    }


def _write(client: Any, stop: threading.Event) -> None:
    while not stop.is_set():
        client.log_metric(client.create_run("1").info.run_id, "metric", 1.0)


@fault("The tracking store is lost")
def lost_store(site: Site) -> Iterator[str]:
    shutil.rmtree(site.paths.store)
    yield output_of(lambda: ui.check(site.paths, 0))
    site.assert_consistent(1, "v1.1.0")
    site.assert_champion_works()


@fault("The tracking store is damaged")
def damaged_store(site: Site) -> Iterator[str]:
    site.paths.database.write_bytes(b"\0" * site.paths.database.stat().st_size)
    yield site.promote(verify=True)
    assert site.version().tags["onnx_sha256"] == files.sha256(site.paths.onnx)
    site.assert_consistent(2, "v1.1.0")
    site.assert_champion_works()


@fault("The checkout was moved")
def moved(site: Site) -> Iterator[str]:
    site.root = site.root.rename(site.root.with_name("moved here"))
    stamp_environment(site.root)
    yield ""
    site.assert_champion_works()


@fault("The cache is corrupted")
def corrupted_cache(site: Site) -> Iterator[str]:
    before, name = site.digests(), files.md5(site.paths.onnx)
    cached = site.root / ".dvc" / "cache" / "files" / "md5" / name[:2] / name[2:]
    cached.chmod(0o644)
    cached.write_bytes(cached.read_bytes()[:-50_000])
    cached.chmod(0o444)
    site.paths.onnx.unlink()
    site.bash("dvc checkout")
    yield output_of(lambda: evaluate.run(site.params, site.paths)).replace(f"{site.root}/", "")
    assert files.md5(cached) == name
    assert site.digests() == before


@fault("dvc.lock is truncated")
def truncated_lock(site: Site) -> Iterator[str]:
    before, lock = site.digests(), site.root / "dvc.lock"
    written = lock.read_bytes()
    lock.write_bytes(b"")
    output = yield site.bash("dvc repro", code=255)
    assert "Running stage" not in output
    assert lock.read_bytes() == written
    assert site.digests() == before


@fault("The disk is full")
def full_disk(site: Site) -> Iterator[str]:
    small = "mount -t tmpfs -o size=64k none data/raw && python -m pipeline.fetch"
    if subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], check=False, capture_output=True).returncode:
        pytest.skip("cannot mount the small file system that stands for a full disk")
    before, cache = site.digests(), site.root / ".dvc" / "cache" / "files" / "md5"
    known, unused = set(cache.glob("??/*")), cache / "c4" / "ca4238a0b923820dcc509a6f75849b"
    unused.parent.mkdir(exist_ok=True)
    unused.write_bytes(b"1")
    yield site.bash(f"unshare -rm bash -c '{small}'", code=1)
    uncached = {files.md5(path) for path in (site.paths.metrics, site.paths.parity)}  # they are in git instead
    assert not unused.exists()
    assert {path.parent.name + path.name for path in known - set(cache.glob("??/*"))} <= uncached
    assert site.digests() == before


@fault("A retraining cycle was interrupted")
def interrupted_cycle(site: Site) -> Iterator[str]:
    before, process = site.remote_refs(), site.start("pipeline.retrain")
    _wait_for("--single-item fetch", site.root / ".dvc" / "tmp" / "rwlock", process)
    process.terminate()
    yield process.communicate()[0]
    assert site.remote_refs() == before
    site.assert_consistent(2, "v1.1.0")


@fault("Credentials are leaked")
def leaked_password(site: Site) -> Iterator[str]:
    config = site.root / ".dvc" / "config"
    leaked = "url = ssh://ada@example.org/srv/dvc\n    password = secret"
    config.write_text(re.sub("url = .*", leaked, config.read_text()))
    git(site.root, "commit", "--quiet", "--all", "--message", "Remote")
    yield site.bash("git grep password -- .dvc/config")
    assert "password" not in site.bash("git show HEAD:.dvc/config")
    assert "new-secret" in site.bash("dvc config remote.store.password")
    assert site.bash("git status --porcelain") == ""
