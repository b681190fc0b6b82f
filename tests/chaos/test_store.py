"""Failing MLflow stores: orphaned runs, a missing, slow or broken server, and a damaged, old, new or locked SQLite file."""

import os
import random
import re
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import mlflow
import mlflow.db
import pytest
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from click.testing import CliRunner
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase

from pipeline import register
from pipeline.core import files
from pipeline.core import params as parameters
from pipeline.core.errors import PipelineError
from pipeline.core.paths import Paths
from pipeline.data import history
from pipeline.data.datasets import Split
from pipeline.tracking import runs, sqlite_store
from pipeline.tracking.errors import (
    BusyStoreError,
    CredentialsError,
    NewerStoreError,
    OlderStoreError,
    TrackingError,
    UnreadableStoreError,
)
from tests.chaos.conftest import LONG, Chaos
from tests.chaos.proxy import Proxy, proxy
from tests.clones import make_clone, ran
from tests.conftest import Repository, forget_store
from tests.imports import ROOT
from tests.servers import free_port, mlflow_server

RANDOM = random.Random(0)
KIND = "MLflow"
PASSWORD = "a password of the tests"
MIGRATIONS = Path(mlflow.__file__).parent / "store" / "db_migrations"


@pytest.fixture
def repository(built: Repository, tmp_path: Path) -> Repository:
    """A copy of the built tree with an empty store."""
    return copy_without_store(built, tmp_path / "tree")


def copy_without_store(built: Repository, root: Path) -> Repository:
    """Return a copy at `root` without a store. A process keeps SQLite files open, so each try needs a new store."""
    forget_store()
    shutil.copytree(built.paths.root / "data", root / "data")
    shutil.copy(built.paths.params, root)
    return Repository(built.params, Paths(root))


def assert_complete(repository: Repository) -> None:
    """Check that the tree's run is finished and has each epoch, metric and file once, and that its model has a version.

    The version may be of another run that made the same model.
    """
    client, paths = mlflow.MlflowClient(repository.paths.tracking_uri), repository.paths
    run = own_run(client, repository)
    assert run.info.status == "FINISHED"
    rows = paths.history.read_text(encoding="utf-8").splitlines()
    for curve in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
        points = sorted(client.get_metric_history(run.info.run_id, f"epoch/{curve}"), key=lambda point: point.step)
        column = rows[0].split(",").index(curve)
        assert [(point.step, pytest.approx(point.value)) for point in points] == [
            (int(row.split(",")[0]), float(row.split(",")[column])) for row in rows[1:]
        ]
    assert run.data.metrics["test/accuracy"] == files.read_json(paths.metrics)["accuracy"]
    assert run.data.params["train.epochs"] == str(repository.params.train.epochs)
    artifacts = {entry.path for folder in ("", "onnx", "plots") for entry in client.list_artifacts(run.info.run_id, folder)}
    assert artifacts >= {"params.yaml", "history.csv", "onnx/model.onnx", "onnx/model.int8.onnx", "plots/worst_mistakes.png"}
    version = client.get_model_version_by_alias(repository.params.tracking.model, "challenger")
    assert int(version.version) == files.read_json(paths.registration)["version"]
    assert version.tags["onnx_sha256"] == files.sha256(paths.onnx)


def own_run(client: mlflow.MlflowClient, repository: Repository) -> mlflow.entities.Run:
    """The run that train opened, or the one that register rebuilt from it."""
    recorded = files.read_json(repository.paths.run)["run_id"]
    experiment = client.get_experiment_by_name(repository.params.tracking.experiment)
    rebuilt = client.search_runs([experiment.experiment_id], f"tags.rebuilt_from = '{recorded}'")
    return rebuilt[0] if rebuilt else client.get_run(recorded)


class Server:
    """An MLflow server that can be killed and restarted with the same data at the same address."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.start()

    def start(self) -> None:
        self.context = mlflow_server(self.folder, port=self.port)
        self.uri, self.process = self.context.__enter__()

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        self.context.__exit__(None, None, None)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.end()


@pytest.fixture
def between(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy in front of the server, to which the pipeline connects."""
    with proxy(server.uri) as between:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", between.uri)
        yield between


# Import MLflow once, then fork the given number of trainings. Each prints its process and run, and ends when `go` exists.
TRAININGS = """
import os, sys, time
from pathlib import Path
from pipeline.core import params
from pipeline.tracking import runs
from pipeline.core.paths import Paths

paths = Paths()
read = params.load(paths.params)
children = []
for _ in range(int(sys.argv[1])):
    if not (child := os.fork()):
        try:
            with runs.training_run(read, paths) as live:
                os.write(1, f"{os.getpid()} {live.run_id}\\n".encode())
                while not Path("go").exists():
                    time.sleep(0.05)
        except Exception as error:
            os.write(1, f"failed {error!r}\\n".encode())
        os._exit(0)
    children.append(child)
for child in children:
    os.waitpid(child, 0)
"""


def kill_trainings(repository: Repository, count: int, killed: int) -> tuple[list[str], list[str]]:
    """Start `count` trainings, kill `killed` of them and run register. Return the statuses of killed and other runs."""
    root, environment = repository.paths.root, os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", TRAININGS, str(count)]
    process = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        started = dict(process.stdout.readline().split(maxsplit=1) for _ in range(count))
        assert "failed" not in started, started
        started = {pid: run.strip() for pid, run in started.items()}
        victims = list(started)[:killed]
        for pid in victims:
            os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.2)
        register.run(repository.params, repository.paths)
        client = mlflow.MlflowClient(repository.paths.tracking_uri)
        dead = [client.get_run(started[pid]).info.status for pid in victims]
        alive = [client.get_run(run).info.status for pid, run in started.items() if pid not in victims]
    finally:
        (root / "go").touch()
        process.communicate(timeout=120)
        (root / "go").unlink()
    return dead, alive + [client.get_run(run).info.status for pid, run in started.items() if pid not in victims]


@pytest.mark.parametrize("where", ["SQLite", "a server"] if LONG else ["SQLite"])
def test_killed_trainings_are_marked_as_killed_and_running_ones_are_not(
    where: str, repository: Repository, server: Server, chaos: Chaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "a server":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    rounds, count, killed = chaos.tries(1, 5), chaos.tries(3, 8), chaos.tries(1, 4)
    marked = lost = 0
    for _ in range(rounds):
        dead, others = kill_trainings(repository, count, killed)
        marked += dead.count("KILLED")
        expected = ["RUNNING"] * (count - killed) + ["FINISHED"] * (count - killed)
        lost += sum(status != wanted for status, wanted in zip(others, expected, strict=True))

    fault = f"SIGKILL of {killed} of {count} trainings, {where}: marked as KILLED, the others are not"
    chaos.count(KIND, fault, rounds * killed, marked, lost)


def fails_early(repository: Repository, uri: str, error: type[PipelineError], message: str) -> bool:
    """Check that training fails with `error` within ten seconds, without a model and without the password in the message."""
    repository.paths.keras.unlink(missing_ok=True)
    start = time.monotonic()
    with pytest.raises(error) as caught, runs.training_run(repository.params, repository.paths):
        raise AssertionError("training began")
    assert time.monotonic() - start < 10
    assert uri in str(caught.value)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)
    return True


@pytest.mark.skipif(not LONG, reason="waits for servers that fail")
def test_a_failing_server_is_reported_within_ten_seconds(
    repository: Repository, between: Proxy, chaos: Chaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = chaos.tries(1, 10)
    between.status = 500
    ended = sum(fails_early(repository, between.uri, TrackingError, "500") for _ in range(tries))
    chaos.count(KIND, "a server that answers 500, at the start", tries, ended)

    uri = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://someone:secret@{uri}")
    ended = sum(fails_early(repository, f"http://{uri}", TrackingError, "expected an answer") for _ in range(tries))
    chaos.count(KIND, "no server, at the start", tries, ended)


@pytest.mark.skipif(not LONG, reason="waits for answers that never come")
def test_a_network_that_drops_all_packets_is_reported_within_ten_seconds(
    repository: Repository, chaos: Chaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = chaos.tries(1, 5)
    with full_backlog() as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        ended = sum(fails_early(repository, uri, TrackingError, "none within") for _ in range(tries))

    chaos.count(KIND, "a network that drops everything, at the start", tries, ended)


@contextmanager
def full_backlog() -> Iterator[str]:
    """Yield an address that neither accepts nor refuses connections, because the queue of its socket is full."""
    with socket.socket() as listening, ExitStack() as waiting:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            connecting = waiting.enter_context(socket.socket())
            connecting.setblocking(False)
            connecting.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_wrong_password_is_reported_as_such(repository: Repository, chaos: Chaos, monkeypatch: pytest.MonkeyPatch) -> None:
    if not LONG:
        pytest.skip("tests/chaos/test_security.py tests it once")
    tries = chaos.tries(1, 20)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a wrong secret")
    with mlflow_server(repository.paths.root, password=PASSWORD) as (uri, _):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        ended = sum(fails_early(repository, uri, CredentialsError, "user or password wrong") for _ in range(tries))

    chaos.count(KIND, "a wrong password, at the start", tries, ended)


def replay_training(repository: Repository, before_epoch: Callable[[int], None]) -> float:
    """Log the epochs of history.csv and record the run, like train.

    Returns:
        The seconds from the first epoch to the end of the run.
    """
    with runs.training_run(repository.params, repository.paths) as live:
        start = time.monotonic()
        for epoch, metrics in enumerate(history.read(repository.paths.history), 1):
            before_epoch(epoch)
            live.log_epoch(epoch, metrics)
    seconds = time.monotonic() - start
    files.write_json(repository.paths.run, files.read_json(repository.paths.run) | {"run_id": live.run_id})
    return seconds


def extend_history(repository: Repository, epochs: int) -> None:
    """Write a history of `epochs` epochs, all equal to its first."""
    head, first, *_ = repository.paths.history.read_text(encoding="utf-8").splitlines()
    metrics = first.partition(",")[2]
    rows = "".join(f"{epoch},{metrics}\n" for epoch in range(1, epochs + 1))
    files.write_text(repository.paths.history, f"{head}\n{rows}")


@pytest.mark.skipif(not LONG, reason="waits for a server that is gone")
def test_a_server_killed_during_training_causes_a_warning_and_register_completes_the_run(
    repository: Repository, server: Server, chaos: Chaos, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    extend_history(repository, 6)
    tries, survived = chaos.tries(1, 8), 0
    for _ in range(tries):
        capsys.readouterr()
        last = RANDOM.randint(2, 6)
        replay_training(repository, lambda epoch, last=last: server.kill() if epoch == last else None)
        warnings = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
        with pytest.raises(TrackingError, match="Start the server"):
            register.run(repository.params, repository.paths)
        server.start()
        register.run(repository.params, repository.paths)
        assert_complete(repository)
        survived += len(warnings) == 1 and "stopped answering" in warnings[0]

    chaos.count(KIND, "SIGKILL of the server during training: training succeeds, register completes the run", tries, survived)


def test_dvc_repro_survives_a_killed_server_and_completes_after_its_restart(
    subset: dict[str, Split], tmp_path: Path, server: Server, chaos: Chaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not LONG:
        pytest.skip("runs the whole pipeline, a minute")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    changes = {"train.epochs": 60, "tracking.experiment": "survived", "tracking.model": "survived"}
    clone = make_clone(tmp_path / "clone", subset, changes)
    with ThreadPoolExecutor() as executor:
        running = executor.submit(clone.run, "dvc", "repro")
        client = mlflow.MlflowClient(server.uri)
        while not running.done() and not has_epoch(client, "survived"):
            time.sleep(0.05)
        server.kill()
        first = running.result()
    server.start()

    assert first.returncode != 0
    assert ran(first.stdout)[-1] == "register"
    assert first.stdout.count("warning:") == 1
    assert "Start the server" in first.stderr
    assert ran(clone.repro()) == ["register"]
    assert_complete(Repository(parameters.load(clone.paths.params), clone.paths))
    chaos.count(KIND, "`dvc repro` whose server is killed during training: the next one runs only register", 1, 1)


def has_epoch(client: mlflow.MlflowClient, name: str) -> bool:
    """Return whether a run of the experiment with this name has an epoch."""
    experiment = client.get_experiment_by_name(name)
    logged = client.search_runs([experiment.experiment_id]) if experiment else []
    return any("epoch/loss" in run.data.metrics for run in logged)


def test_a_server_that_fails_during_training_causes_a_warning(
    repository: Repository, between: Proxy, chaos: Chaos, capsys: pytest.CaptureFixture[str]
) -> None:
    tries, survived = chaos.tries(1, 10), 0
    for _ in range(tries):
        capsys.readouterr()
        replay_training(repository, lambda epoch: setattr(between, "status", 500 if epoch == 2 else 0))
        warnings = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
        between.status = 0
        register.run(repository.params, repository.paths)
        assert_complete(repository)
        survived += len(warnings) == 1 and "stopped answering" in warnings[0]

    chaos.count(KIND, "a server that starts to answer 500 during training", tries, survived)


@pytest.mark.skipif(not LONG, reason="waits for a slow server")
def test_a_slow_server_does_not_slow_down_training(
    repository: Repository, between: Proxy, chaos: Chaos, capsys: pytest.CaptureFixture[str]
) -> None:
    delay, epochs = chaos.tries(3, 10), 100
    extend_history(repository, epochs)
    if LONG:
        between.delay = delay  # from the start
    seconds = replay_training(repository, lambda epoch: setattr(between, "delay", delay))
    requests = sum(path.endswith("log-batch") for path in between.seen)
    between.delay = 0
    register.run(repository.params, repository.paths)

    printed = capsys.readouterr().out
    assert_complete(repository)
    assert seconds < 5 + 2 * delay
    assert requests < epochs / 4
    assert printed.count("is slow: it took") == printed.count("warning:") == 1
    assert not LONG or "takes 10.0 s per answer" in printed
    chaos.count(KIND, f"a server that takes {delay} s per answer: training waits for two at most", 1, 1)


def test_a_server_that_hangs_does_not_block_training(
    repository: Repository, server: Server, chaos: Chaos, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not LONG:
        pytest.skip("takes a minute")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    extend_history(repository, 50)
    try:
        seconds = replay_training(
            repository, lambda epoch: os.killpg(server.process.pid, signal.SIGSTOP) if epoch == 2 else None
        )
    finally:
        os.killpg(server.process.pid, signal.SIGCONT)
    warnings = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    register.run(repository.params, repository.paths)

    assert_complete(repository)
    chaos.count(KIND, "a server that hangs (SIGSTOP) during training: costs half a minute at most", 1, int(seconds < 35))
    assert len(warnings) == 1


def create_store(revision: str, database: Path) -> None:
    """Create a store with the schema `revision` of an older MLflow, with one experiment."""
    engine = sqlalchemy.create_engine(f"sqlite:///{database}")
    InitialBase.metadata.create_all(engine)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        columns = "experiment_id, name, artifact_location, lifecycle_stage"
        connection.execute(sqlalchemy.text(f"INSERT INTO experiments ({columns}) VALUES (7, 'kept', '', 'active')"))
    engine.dispose()


def content(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return list(connection.iterdump())


def test_an_older_store_is_copied_and_the_command_in_the_error_upgrades_it(
    built: Repository, tmp_path: Path, chaos: Chaos
) -> None:
    schemas = [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()][1:]
    chosen, survived = schemas[:: chaos.tries(len(schemas), 6)], 0
    for revision in chosen:
        repository = copy_without_store(built, tmp_path / revision)
        paths = repository.paths
        paths.store.mkdir()
        create_store(revision, paths.database)
        before = content(paths.database)
        with pytest.raises(OlderStoreError) as caught:
            register.run(repository.params, paths)
        assert content(paths.database) == before == content(paths.database.with_name(f"mlflow.db.{revision}.bak"))
        (named,) = re.findall(r"`mlflow db ([^`]*)`", str(caught.value))
        assert CliRunner().invoke(mlflow.db.commands, shlex.split(named)).exit_code == 0
        register.run(repository.params, paths)
        assert_complete(repository)
        survived += mlflow.MlflowClient(paths.tracking_uri).get_experiment_by_name("kept").experiment_id == "7"

    chaos.count(KIND, "a store of an older MLflow: copied, and upgraded by the command in the error", len(chosen), survived)


def damage(kind: str, intact: bytes) -> bytes:
    """Damage a SQLite file at a random position."""
    position = RANDOM.randrange(1, len(intact) // 4096) * 4096
    return {
        "truncated": intact[: position + RANDOM.randrange(4096)],
        "with a page of garbage": intact[:position] + RANDOM.randbytes(4096) + intact[position + 4096 :],
        "overwritten with garbage": RANDOM.randbytes(len(intact)),
        "of zero bytes": b"",
    }[kind]


@pytest.fixture(scope="module")
def intact(built: Repository) -> bytes:
    """The bytes of the store of the built tree."""
    return built.paths.database.read_bytes()


@pytest.mark.parametrize("kind", ["truncated", "with a page of garbage", "overwritten with garbage", "of zero bytes"])
def test_a_damaged_store_is_not_changed_and_the_commands_in_the_error_restore_the_run(
    kind: str, built: Repository, tmp_path: Path, intact: bytes, chaos: Chaos
) -> None:
    tries, survived, lost = chaos.tries(2, 10), 0, 0
    for number in range(tries):
        repository = copy_without_store(built, tmp_path / str(number))
        paths = repository.paths
        paths.store.mkdir()
        paths.database.write_bytes(damaged := damage(kind, intact))
        try:
            register.run(repository.params, paths)
        except UnreadableStoreError as error:
            lost += paths.database.read_bytes() != damaged
            (move,) = re.findall(r"`(mv [^`]*)`", str(error))
            if LONG or (kind, number) == ("of zero bytes", 0):
                subprocess.run(shlex.split(move), check=True)
                register.run(repository.params, paths)
                assert_complete(repository)
            survived += 1
        else:
            assert kind == "with a page of garbage", "the damage was not detected"  # the page may be unused
            assert_complete(repository)
            survived += 1

    chaos.count(KIND, f"a store {kind}: reported, not changed, and the run restored", tries, survived, lost)


def test_a_store_of_a_newer_mlflow_is_not_changed(repository: Repository, intact: bytes, chaos: Chaos) -> None:
    repository.paths.store.mkdir()
    repository.paths.database.write_bytes(intact)
    with closing(sqlite3.connect(repository.paths.database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'fedcba987654'")
    before = files.sha256(repository.paths.database)

    with pytest.raises(NewerStoreError, match="Install that MLflow"):
        register.run(repository.params, repository.paths)

    assert files.sha256(repository.paths.database) == before
    chaos.count(KIND, "a store of a newer MLflow: reported, and not changed", 1, 1)


def run_ui(paths: Paths) -> "subprocess.CompletedProcess[str]":
    """Run `make ui` on a store that it must not serve; end it if it serves the store anyway."""
    command = [sys.executable, "-m", "pipeline.ui", "--port", str(free_port())]
    forget_store()  # this process has set MLFLOW_TRACKING_URI
    shutil.copy(ROOT / "params.yaml", paths.params)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command,
        cwd=paths.root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def test_the_ui_copies_an_older_store_and_does_not_change_it(tmp_path: Path, chaos: Chaos) -> None:
    schemas = [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()][1:]
    chosen, survived = schemas[:: chaos.tries(len(schemas), 6)], 0
    for revision in chosen:
        paths = Paths(tmp_path / revision)
        paths.store.mkdir(parents=True)
        create_store(revision, paths.database)
        before = content(paths.database)
        done = run_ui(paths)
        assert content(paths.database) == before == content(paths.database.with_name(f"mlflow.db.{revision}.bak"))
        survived += done.returncode == 1 and f"`mlflow db upgrade sqlite:///{paths.database}`" in done.stderr

    chaos.count(KIND, "`make ui` on a store of an older MLflow: copied, reported, and not served", len(chosen), survived)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("of a newer MLflow", "of a newer one"),
        ("of zero bytes", "found an empty file"),
        ("overwritten with garbage", "file is not a database"),
    ],
)
def test_the_ui_does_not_change_an_unusable_store(kind: str, message: str, tmp_path: Path, intact: bytes) -> None:
    paths = Paths(tmp_path)
    paths.store.mkdir()
    if kind == "of a newer MLflow":
        paths.database.write_bytes(intact)
        with closing(sqlite3.connect(paths.database)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = 'fedcba987654'")
    else:
        paths.database.write_bytes(damage(kind, intact))
    before = files.sha256(paths.database)

    done = run_ui(paths)

    assert files.sha256(paths.database) == before
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_in_place_of_the_store_is_reported_at_once(repository: Repository) -> None:
    (repository.paths.database / "kept").mkdir(parents=True)
    assert fails_early(repository, str(repository.paths.database), UnreadableStoreError, "a folder")
    done = run_ui(repository.paths)

    assert (done.returncode, "found a folder" in done.stderr) == (1, True), done.stderr
    assert (repository.paths.database / "kept").is_dir()


def test_a_store_uri_with_options_is_created_and_checked_like_any_other(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{repository.paths.database}?timeout=10")
    register.run(repository.params, repository.paths)
    assert_complete(repository)
    assert sorted(path.name for path in repository.paths.store.iterdir()) == ["artifacts", "mlflow.db", "mlflow.db.lock"]

    forget_store()
    older = copy_without_store(repository, repository.paths.root / "older")
    older.paths.store.mkdir()
    (revision, *_) = [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()][1:]
    create_store(revision, older.paths.database)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{older.paths.database}?timeout=10")
    with pytest.raises(OlderStoreError):
        register.run(older.params, older.paths)
    assert older.paths.database.with_name(f"mlflow.db.{revision}.bak").exists()


@contextmanager
def locked(database: Path, seconds: float) -> Iterator[None]:
    """Lock the store from another process for this long."""
    code = "import sqlite3, sys, time; writer = sqlite3.connect(sys.argv[1], isolation_level=None)"
    code += f"; writer.execute('BEGIN EXCLUSIVE'); print('locked', flush=True); time.sleep({seconds})"
    command = [sys.executable, "-c", code, str(database)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.kill()


@pytest.mark.skipif(not LONG, reason="waits for a lock")
def test_register_waits_for_a_locked_store_and_then_reports_it(
    repository: Repository, chaos: Chaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    register.run(repository.params, repository.paths)
    tries, survived = chaos.tries(1, 5), 0
    for _ in range(tries):
        with locked(repository.paths.database, 2):
            register.run(repository.params, repository.paths)
        assert_complete(repository)
        if not LONG:
            monkeypatch.setattr(sqlite_store, "PATIENCE", 1)
        with locked(repository.paths.database, 60), pytest.raises(BusyStoreError, match="fuser"):
            register.run(repository.params, repository.paths)
        register.run(repository.params, repository.paths)
        assert_complete(repository)
        survived += 1

    chaos.count(KIND, "a store that another process locks: waited for, then reported, and nothing lost", tries, survived)


@pytest.mark.skipif(not LONG, reason="waits for a lock")
def test_a_store_locked_during_training_causes_a_warning(
    repository: Repository, chaos: Chaos, capsys: pytest.CaptureFixture[str]
) -> None:
    if not LONG:
        pytest.skip("MLflow waits for twenty seconds, twice")
    with ExitStack() as stack:
        replay_training(
            repository,
            lambda epoch: stack.enter_context(locked(repository.paths.database, 300)) if epoch == 2 else None,
        )
    register.run(repository.params, repository.paths)

    warnings = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert_complete(repository)
    chaos.count(KIND, "a store that another process locks during training", 1, int(len(warnings) == 1))
