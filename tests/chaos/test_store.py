"""MLflow stores that fail: orphaned runs, a server that is away, slow or broken, and a SQLite file that is not what it was."""

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

CHANCE = random.Random(0)
KIND = "MLflow"
PASSWORD = "a password of the tests"
MIGRATIONS = Path(mlflow.__file__).parent / "store" / "db_migrations"


@pytest.fixture
def repository(built: Repository, tmp_path: Path) -> Repository:
    """A copy of the built tree with a store of its own, in which nothing is yet."""
    return fresh(built, tmp_path / "tree")


def fresh(built: Repository, root: Path) -> Repository:
    """The same at `root`, whose store the next stages use: a process keeps the files of SQLite open, so each is another."""
    forget_store()
    shutil.copytree(built.paths.root / "data", root / "data")
    shutil.copy(built.paths.params, root)
    return Repository(built.params, Paths(root))


def assert_complete(made: Repository) -> None:
    """The registered run is finished, and holds each point of the curves, each figure and each file, once."""
    client, paths = mlflow.MlflowClient(made.paths.tracking_uri), made.paths
    run = client.get_run(files.read_json(paths.registration)["run_id"])
    assert run.info.status == "FINISHED"
    rows = paths.history.read_text(encoding="utf-8").splitlines()
    for curve in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
        points = sorted(client.get_metric_history(run.info.run_id, f"epoch/{curve}"), key=lambda point: point.step)
        column = rows[0].split(",").index(curve)
        assert [(point.step, pytest.approx(point.value)) for point in points] == [
            (int(row.split(",")[0]), float(row.split(",")[column])) for row in rows[1:]
        ]
    assert run.data.metrics["test/accuracy"] == files.read_json(paths.metrics)["accuracy"]
    assert run.data.params["train.epochs"] == str(made.params.train.epochs)
    held = {entry.path for folder in ("", "onnx", "plots") for entry in client.list_artifacts(run.info.run_id, folder)}
    assert held >= {"params.yaml", "history.csv", "onnx/model.onnx", "onnx/model.int8.onnx", "plots/worst_mistakes.png"}
    version = client.get_model_version_by_alias(made.params.tracking.model, "challenger")
    assert (version.run_id, version.tags["onnx_sha256"]) == (run.info.run_id, files.sha256(paths.onnx))


class Server:
    """An MLflow server that can be killed and started again, with what it keeps, at the same address."""

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
    started = Server(tmp_path_factory.mktemp("server"))
    yield started
    started.end()


@pytest.fixture
def between(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the server, which the pipeline takes for the server."""
    with proxy(server.uri) as started:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", started.uri)
        yield started


# Imports MLflow once, and is as many trainings as it is told; each says who it is, and goes on until there is a file `go`.
TRAININGS = """
import os, sys, time
from pathlib import Path
from pipeline.core import params
from pipeline.tracking import runs
from pipeline.core.paths import Paths

paths = Paths()
given = params.load(paths.params)
children = []
for _ in range(int(sys.argv[1])):
    if not (child := os.fork()):
        try:
            with runs.training_run(given, paths) as live:
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


def orphaned(repository: Repository, count: int, killed: int) -> tuple[list[str], list[str]]:
    """Of `count` trainings at once kill `killed`, then start another; the states of the killed ones and of the others."""
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


@pytest.mark.parametrize("where", ["SQLite", "a server"])
def test_a_killed_training_is_marked_and_those_that_go_on_beside_it_are_not(
    where: str, repository: Repository, server: Server, chaos: Chaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "a server":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    rounds, count, killed = chaos.tries(1, 5), chaos.tries(3, 8), chaos.tries(1, 4)
    marked = lost = 0
    for _ in range(rounds):
        dead, others = orphaned(repository, count, killed)
        marked += dead.count("KILLED")
        expected = ["RUNNING"] * (count - killed) + ["FINISHED"] * (count - killed)
        lost += sum(found != wanted for found, wanted in zip(others, expected, strict=True))

    fault = f"SIGKILL of {killed} of {count} trainings at once, {where}: marked at the next start, the others left alone"
    chaos.count(KIND, fault, rounds * killed, marked, lost)


def refused(repository: Repository, uri: str, error: type[PipelineError], says: str) -> bool:
    """Whether training ends in `error` within ten seconds, without a model and without the password in its message."""
    repository.paths.keras.unlink(missing_ok=True)
    begun = time.monotonic()
    with pytest.raises(error) as caught, runs.training_run(repository.params, repository.paths):
        raise AssertionError("training began")
    assert time.monotonic() - begun < 10
    assert uri in str(caught.value)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)
    return True


def test_a_server_that_does_not_serve_is_told_within_ten_seconds(
    repository: Repository, between: Proxy, chaos: Chaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = chaos.tries(1, 10)
    between.status = 500
    ended = sum(refused(repository, between.uri, TrackingError, "500") for _ in range(tries))
    chaos.count(KIND, "a server that answers 500, at the start", tries, ended)

    uri = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://someone:secret@{uri}")
    ended = sum(refused(repository, f"http://{uri}", TrackingError, "expected an answer") for _ in range(tries))
    chaos.count(KIND, "no server, at the start", tries, ended)


def test_a_network_that_swallows_everything_is_told_within_ten_seconds(
    repository: Repository, chaos: Chaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = chaos.tries(1, 5)
    with full_backlog() as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        ended = sum(refused(repository, uri, TrackingError, "none within") for _ in range(tries))

    chaos.count(KIND, "a network that swallows everything, at the start", tries, ended)


@contextmanager
def full_backlog() -> Iterator[str]:
    """An address at which nothing answers, nor refuses: the queue of its socket is full."""
    with socket.socket() as listening, ExitStack() as waiting:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            connecting = waiting.enter_context(socket.socket())
            connecting.setblocking(False)
            connecting.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_wrong_password_is_told_as_that(repository: Repository, chaos: Chaos, monkeypatch: pytest.MonkeyPatch) -> None:
    if not LONG:
        pytest.skip("tests/test_team.py tries it once")
    tries = chaos.tries(1, 20)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a wrong secret")
    with mlflow_server(repository.paths.root, password=PASSWORD) as (uri, _):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        ended = sum(refused(repository, uri, CredentialsError, "user or password wrong") for _ in range(tries))

    chaos.count(KIND, "a wrong password, at the start", tries, ended)


def retrained(repository: Repository, before_epoch: Callable[[int], None]) -> float:
    """Show the epochs of history.csv as a training does, and note the run as train does.

    Returns:
        the seconds from the first epoch to the end of the run.
    """
    with runs.training_run(repository.params, repository.paths) as live:
        begun = time.monotonic()
        for epoch, metrics in enumerate(history.read(repository.paths.history), 1):
            before_epoch(epoch)
            live.log_epoch(epoch, metrics)
    seconds = time.monotonic() - begun
    files.write_json(repository.paths.run, files.read_json(repository.paths.run) | {"run_id": live.run_id})
    return seconds


def longer(repository: Repository, epochs: int) -> None:
    """Make a history of so many epochs."""
    head, first, *_ = repository.paths.history.read_text(encoding="utf-8").splitlines()
    figures = first.partition(",")[2]
    rows = "".join(f"{epoch},{figures}\n" for epoch in range(1, epochs + 1))
    files.write_text(repository.paths.history, f"{head}\n{rows}")


def test_a_server_killed_in_mid_training_costs_a_warning_and_register_makes_the_run_whole(
    repository: Repository, server: Server, chaos: Chaos, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    longer(repository, 6)
    tries, survived = chaos.tries(1, 8), 0
    for _ in range(tries):
        capsys.readouterr()
        last = CHANCE.randint(2, 6)
        retrained(repository, lambda epoch, last=last: server.kill() if epoch == last else None)
        told = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
        with pytest.raises(TrackingError, match="Start the server"):
            register.run(repository.params, repository.paths)
        server.start()
        register.run(repository.params, repository.paths)
        assert_complete(repository)
        survived += len(told) == 1 and "stopped answering" in told[0]

    chaos.count(
        KIND, "SIGKILL of the server in mid-training: training ends well, register makes the run whole", tries, survived
    )


def test_dvc_repro_outlives_the_server_and_completes_when_it_is_back(
    subset: dict[str, Split], tmp_path: Path, server: Server, chaos: Chaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not LONG:
        pytest.skip("runs the whole pipeline, a minute")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    changes = {"train.epochs": 60, "tracking.experiment": "outlived", "tracking.model": "outlived"}
    clone = make_clone(tmp_path / "clone", subset, changes)
    with ThreadPoolExecutor() as aside:
        running = aside.submit(clone.run, "dvc", "repro")
        client = mlflow.MlflowClient(server.uri)
        while not running.done() and not is_shown(client, "outlived"):
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
    chaos.count(KIND, "`dvc repro` whose server is killed in mid-training: the next runs register alone", 1, 1)


def is_shown(client: mlflow.MlflowClient, experiment: str) -> bool:
    """Whether a run of the experiment holds an epoch."""
    found = client.get_experiment_by_name(experiment)
    started = client.search_runs([found.experiment_id]) if found else []
    return any("epoch/loss" in run.data.metrics for run in started)


def test_a_server_that_breaks_in_mid_training_costs_a_warning(
    repository: Repository, between: Proxy, chaos: Chaos, capsys: pytest.CaptureFixture[str]
) -> None:
    tries, survived = chaos.tries(1, 10), 0
    for _ in range(tries):
        capsys.readouterr()
        retrained(repository, lambda epoch: setattr(between, "status", 500 if epoch == 2 else 0))
        told = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
        between.status = 0
        register.run(repository.params, repository.paths)
        assert_complete(repository)
        survived += len(told) == 1 and "stopped answering" in told[0]

    chaos.count(KIND, "a server that answers 500 from mid-training on", tries, survived)


def test_a_slow_server_does_not_make_training_slow(
    repository: Repository, between: Proxy, chaos: Chaos, capsys: pytest.CaptureFixture[str]
) -> None:
    delay, epochs = chaos.tries(3, 10), 100
    longer(repository, epochs)
    if LONG:
        between.delay = delay  # from the start
    seconds = retrained(repository, lambda epoch: setattr(between, "delay", delay))
    asked = sum(path.endswith("log-batch") for path in between.seen)
    between.delay = 0
    register.run(repository.params, repository.paths)

    told = capsys.readouterr().out
    assert_complete(repository)
    assert seconds < 5 + 2 * delay
    assert asked < epochs / 4
    assert told.count("is slow: it took") == told.count("warning:") == 1
    assert not LONG or "takes 10.0 s per answer" in told
    chaos.count(KIND, f"a server that takes {delay} s an answer: training waits for two at most", 1, 1)


def test_a_server_that_hangs_in_mid_training_does_not_hang_training(
    repository: Repository, server: Server, chaos: Chaos, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not LONG:
        pytest.skip("takes a minute")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    longer(repository, 50)
    try:
        seconds = retrained(repository, lambda epoch: os.killpg(server.process.pid, signal.SIGSTOP) if epoch == 2 else None)
    finally:
        os.killpg(server.process.pid, signal.SIGCONT)
    told = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    register.run(repository.params, repository.paths)

    assert_complete(repository)
    chaos.count(KIND, "a server that hangs (SIGSTOP) in mid-training: half a minute is lost at most", 1, int(seconds < 35))
    assert len(told) == 1


def of_schema(revision: str, database: Path) -> None:
    """Make the store that an MLflow of that schema made, with an experiment in it."""
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


def test_an_older_store_is_copied_and_goes_on_by_the_command_that_the_error_names(
    built: Repository, tmp_path: Path, chaos: Chaos
) -> None:
    schemas = [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()][1:]
    chosen, survived = schemas[:: chaos.tries(len(schemas), 6)], 0
    for revision in chosen:
        repository = fresh(built, tmp_path / revision)
        paths = repository.paths
        paths.store.mkdir()
        of_schema(revision, paths.database)
        before = content(paths.database)
        with pytest.raises(OlderStoreError) as caught:
            register.run(repository.params, paths)
        assert content(paths.database) == before == content(paths.database.with_name(f"mlflow.db.{revision}.bak"))
        (named,) = re.findall(r"`mlflow db ([^`]*)`", str(caught.value))
        assert CliRunner().invoke(mlflow.db.commands, shlex.split(named)).exit_code == 0
        register.run(repository.params, paths)
        assert_complete(repository)
        survived += mlflow.MlflowClient(paths.tracking_uri).get_experiment_by_name("kept").experiment_id == "7"

    chaos.count(KIND, "a store of an older MLflow: a copy, the command, and on", len(chosen), survived)


def damage(kind: str, whole: bytes) -> bytes:
    """A SQLite file that something happened to, at a place that chance picks."""
    place = CHANCE.randrange(1, len(whole) // 4096) * 4096
    return {
        "cut short": whole[: place + CHANCE.randrange(4096)],
        "with a page of garbage": whole[:place] + CHANCE.randbytes(4096) + whole[place + 4096 :],
        "overwritten with garbage": CHANCE.randbytes(len(whole)),
        "of zero bytes": b"",
    }[kind]


@pytest.fixture(scope="module")
def whole(built: Repository) -> bytes:
    """The store of the built tree."""
    return built.paths.database.read_bytes()


@pytest.mark.parametrize("kind", ["cut short", "with a page of garbage", "overwritten with garbage", "of zero bytes"])
def test_a_damaged_store_is_left_alone_and_the_documented_way_brings_the_run_back(
    kind: str, built: Repository, tmp_path: Path, whole: bytes, chaos: Chaos
) -> None:
    tries, survived, lost = chaos.tries(2, 10), 0, 0
    for number in range(tries):
        repository = fresh(built, tmp_path / str(number))
        paths = repository.paths
        paths.store.mkdir()
        paths.database.write_bytes(damaged := damage(kind, whole))
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
            assert kind == "with a page of garbage", "found nothing wrong"  # by chance a page that holds nothing
            assert_complete(repository)
            survived += 1

    chaos.count(KIND, f"a store {kind}: told, left as it is, and the run brought back", tries, survived, lost)


def test_a_store_of_a_newer_mlflow_is_left_alone(repository: Repository, whole: bytes, chaos: Chaos) -> None:
    repository.paths.store.mkdir()
    repository.paths.database.write_bytes(whole)
    with closing(sqlite3.connect(repository.paths.database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'fedcba987654'")
    before = files.sha256(repository.paths.database)

    with pytest.raises(NewerStoreError, match="Install that MLflow"):
        register.run(repository.params, repository.paths)

    assert files.sha256(repository.paths.database) == before
    chaos.count(KIND, "a store of a newer MLflow: told, and left as it is", 1, 1)


def shown(paths: Paths) -> "subprocess.CompletedProcess[str]":
    """`make ui` on a store that it must not serve; it is ended where it does after all."""
    command = [sys.executable, "-m", "pipeline.ui", "--port", str(free_port())]
    forget_store()  # of this process, which names it in the environment
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


def test_the_ui_leaves_an_older_store_as_it_is_and_copies_it(tmp_path: Path, chaos: Chaos) -> None:
    schemas = [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()][1:]
    chosen, survived = schemas[:: chaos.tries(len(schemas), 6)], 0
    for revision in chosen:
        paths = Paths(tmp_path / revision)
        paths.store.mkdir(parents=True)
        of_schema(revision, paths.database)
        before = content(paths.database)
        done = shown(paths)
        assert content(paths.database) == before == content(paths.database.with_name(f"mlflow.db.{revision}.bak"))
        survived += done.returncode == 1 and f"`mlflow db upgrade sqlite:///{paths.database}`" in done.stderr

    chaos.count(KIND, "`make ui` on a store of an older MLflow: a copy, the command, nothing served", len(chosen), survived)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("of a newer MLflow", "of a newer one"),
        ("of zero bytes", "found an empty file"),
        ("overwritten with garbage", "file is not a database"),
    ],
)
def test_the_ui_leaves_a_store_alone_that_is_not_whole(kind: str, says: str, tmp_path: Path, whole: bytes) -> None:
    paths = Paths(tmp_path)
    paths.store.mkdir()
    if kind == "of a newer MLflow":
        paths.database.write_bytes(whole)
        with closing(sqlite3.connect(paths.database)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = 'fedcba987654'")
    else:
        paths.database.write_bytes(damage(kind, whole))
    before = files.sha256(paths.database)

    done = shown(paths)

    assert files.sha256(paths.database) == before
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_in_the_place_of_the_store_is_told_at_once(repository: Repository) -> None:
    (repository.paths.database / "kept").mkdir(parents=True)
    assert refused(repository, str(repository.paths.database), UnreadableStoreError, "a folder")
    done = shown(repository.paths)

    assert (done.returncode, "found a folder" in done.stderr) == (1, True), done.stderr
    assert (repository.paths.database / "kept").is_dir()


def test_a_store_named_with_options_is_made_and_looked_at_as_any_other(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{repository.paths.database}?timeout=10")
    register.run(repository.params, repository.paths)
    assert_complete(repository)
    assert sorted(path.name for path in repository.paths.store.iterdir()) == ["artifacts", "mlflow.db", "mlflow.db.lock"]

    forget_store()
    older = fresh(repository, repository.paths.root / "older")
    older.paths.store.mkdir()
    (revision, *_) = [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()][1:]
    of_schema(revision, older.paths.database)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{older.paths.database}?timeout=10")
    with pytest.raises(OlderStoreError):
        register.run(older.params, older.paths)
    assert older.paths.database.with_name(f"mlflow.db.{revision}.bak").exists()


@contextmanager
def locked(database: Path, seconds: float) -> Iterator[None]:
    """Another process writes for so long, and lets nobody else."""
    code = "import sqlite3, sys, time; writer = sqlite3.connect(sys.argv[1], isolation_level=None)"
    code += f"; writer.execute('BEGIN EXCLUSIVE'); print('locked', flush=True); time.sleep({seconds})"
    command = [sys.executable, "-c", code, str(database)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.kill()


def test_a_store_that_another_process_locks_is_waited_for_and_then_told(
    repository: Repository, chaos: Chaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    register.run(repository.params, repository.paths)
    tries, told = chaos.tries(1, 5), 0
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
        told += 1

    chaos.count(KIND, "a store that another process locks: waited for, then told, and nothing lost", tries, told)


def test_a_store_that_another_process_locks_in_mid_training_costs_a_warning(
    repository: Repository, chaos: Chaos, capsys: pytest.CaptureFixture[str]
) -> None:
    if not LONG:
        pytest.skip("MLflow waits for twenty seconds, twice")
    with ExitStack() as stack:
        retrained(
            repository,
            lambda epoch: stack.enter_context(locked(repository.paths.database, 300)) if epoch == 2 else None,
        )
    register.run(repository.params, repository.paths)

    told = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert_complete(repository)
    chaos.count(KIND, "a store that another process locks in mid-training", 1, int(len(told) == 1))
