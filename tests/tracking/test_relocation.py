"""A checkout that was moved or copied: its default store leads to the artifacts that lie beside it."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from pipeline import register
from pipeline.core import files
from pipeline.core.paths import Paths
from pipeline.tracking import relocation
from pipeline.tracking.connection import connected
from pipeline.tracking.errors import TrackingError
from tests.conftest import Repository
from tests.imports import ROOT

RECORDS = {("tags", "value"), ("logged_model_tags", "tag_value"), ("datasets", "dataset_source")}  # of what was, where it was


@pytest.fixture
def copied(built: Repository, tmp_path: Path) -> Repository:
    """A copy of the built tree, store and all, in a folder whose name a URI has to quote."""
    root = tmp_path / "mövéd here #1"
    shutil.copytree(built.paths.root, root)
    return Repository(built.params, Paths(root))


def mentions(database: Path, folder: Path) -> set[tuple[str, str]]:
    """Every table and column of the store that names the folder, as a path or as a URI."""
    found = set()
    with closing(sqlite3.connect(database)) as store:
        for (table,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for _, column, *_ in store.execute(f'PRAGMA table_info("{table}")').fetchall():
                for (value,) in store.execute(f'SELECT "{column}" FROM "{table}"'):
                    if any(f"{place}/" in str(value) for place in (folder, folder.as_uri())):
                        found.add((table, column))
    return found


def test_after_a_move_no_path_leads_to_where_the_store_was(built: Repository, copied: Repository) -> None:
    assert relocation.follow(copied.paths) == [built.paths.store]

    assert mentions(copied.paths.database, built.paths.root) <= RECORDS
    assert mentions(copied.paths.database, copied.paths.root) - {("experiments", "artifact_location")} == {
        ("runs", "artifact_uri"),
        ("logged_models", "artifact_location"),
        ("model_versions", "storage_location"),
    }


def test_the_artifacts_of_a_moved_checkout_are_read_and_its_model_loads(copied: Repository, tmp_path: Path) -> None:
    gone = shutil.move(copied.paths.root, tmp_path / "moved again")
    paths = Paths(gone)

    with connected(copied.params, paths):
        pass

    run_id = files.read_json(paths.registration)["run_id"]
    assert mlflow.get_run(run_id).info.artifact_uri.startswith(paths.store.as_uri())
    picture = Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="plots/worst_mistakes.png"))
    assert picture.read_bytes() == (paths.plots / "worst_mistakes.png").read_bytes()
    model = mlflow.pyfunc.load_model("models:/mnist-dense@challenger")
    assert model.predict({"image": np.zeros((1, 28, 28), np.uint8)})["probabilities"].shape == (1, 10)


def test_what_a_copy_registers_lies_in_the_copy_and_the_original_stays(built: Repository, copied: Repository) -> None:
    def original() -> list[Path]:
        return sorted(built.paths.store.rglob("*"))

    before, digest = original(), files.sha256(built.paths.database)
    copied.paths.onnx.write_bytes(copied.paths.int8.read_bytes())  # another model, so that a version is made

    register.run(copied.params, copied.paths)

    assert (original(), files.sha256(built.paths.database)) == (before, digest)
    version = mlflow.MlflowClient(copied.paths.tracking_uri).get_model_version_by_alias("mnist-dense", "challenger")
    assert version.version == 2
    assert len(list((copied.paths.store / "artifacts" / "models").iterdir())) == 2


def test_the_store_as_it_was_is_kept(built: Repository, copied: Repository) -> None:
    relocation.follow(copied.paths)

    kept = copied.paths.store / "mlflow.db.before-move"
    assert mentions(kept, built.paths.root) == mentions(built.paths.database, built.paths.root)
    assert not mentions(kept, copied.paths.root)


def test_a_store_that_stays_where_it_is_is_not_written(built: Repository, copied: Repository) -> None:
    relocation.follow(copied.paths)
    (copied.paths.store / "mlflow.db.before-move").unlink()
    digest = files.sha256(copied.paths.database)

    assert relocation.follow(copied.paths) == []

    assert files.sha256(copied.paths.database) == digest
    assert not (copied.paths.store / "mlflow.db.before-move").exists()


def test_a_store_named_by_its_address_is_left_alone(copied: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = files.sha256(copied.paths.database)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{copied.paths.database}?timeout=10")

    assert relocation.follow(copied.paths) == []

    assert files.sha256(copied.paths.database) == digest


def test_what_another_checkout_logs_to_this_store_stays_its_own(copied: Repository, tmp_path: Path) -> None:
    relocation.follow(copied.paths)
    theirs = tmp_path / "another" / "mlruns" / "artifacts"
    client = mlflow.MlflowClient(copied.paths.tracking_uri)
    run = client.create_run(client.create_experiment("theirs", artifact_location=theirs.as_uri()))
    client.log_text(run.info.run_id, "kept there", "note.txt")

    assert relocation.follow(copied.paths) == []

    found = mlflow.artifacts.load_text(f"{client.get_run(run.info.run_id).info.artifact_uri}/note.txt")
    assert found == "kept there"


def test_an_experiment_of_another_checkout_stays_its_own_before_its_first_run(copied: Repository, tmp_path: Path) -> None:
    relocation.follow(copied.paths)
    theirs = tmp_path / "another" / "mlruns" / "artifacts"
    theirs.parent.mkdir(parents=True)  # where its lock lies
    client = mlflow.MlflowClient(copied.paths.tracking_uri)
    experiment = client.create_experiment("theirs", artifact_location=theirs.as_uri())

    assert relocation.follow(copied.paths) == []

    assert client.get_experiment(experiment).artifact_location == theirs.as_uri()


def test_an_experiment_without_a_run_follows_a_checkout_that_was_moved(copied: Repository, tmp_path: Path) -> None:
    relocation.follow(copied.paths)
    gone = tmp_path / "gone" / "mlruns" / "artifacts"
    client = mlflow.MlflowClient(copied.paths.tracking_uri)
    experiment = client.create_experiment("new", artifact_location=gone.as_uri())

    assert relocation.follow(copied.paths) == [gone.parent]

    assert client.get_experiment(experiment).artifact_location == (copied.paths.store / "artifacts").as_uri()


def test_of_several_processes_that_come_upon_a_moved_store_each_finds_it_right(copied: Repository) -> None:
    code = """
from pipeline.core.paths import Paths
from pipeline.tracking import relocation
print(len(relocation.follow(Paths())))
"""
    environment: dict[str, Any] = {"cwd": copied.paths.root, "env": {"PYTHONPATH": str(ROOT)}, "text": True}

    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **environment)
        for _ in range(6)
    ]

    printed = [process.communicate() for process in processes]
    assert sorted(out.strip() for out, _ in printed) == ["0"] * 5 + ["1"], printed
    with closing(sqlite3.connect(copied.paths.database)) as store:
        assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_file_that_is_no_store_is_named(copied: Repository) -> None:
    copied.paths.database.write_bytes(b"no database" * 1000)

    with pytest.raises(TrackingError, match="file is not a database"):
        relocation.follow(copied.paths)


def test_make_sets_up_again_where_the_environment_was_made_elsewhere(tmp_path: Path) -> None:
    was, now = tmp_path / "was", tmp_path / "now"
    was.mkdir()
    for name in ("Makefile", "requirements.txt"):
        shutil.copy(ROOT / name, was)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", was / ".venv"], check=True)
    (was / ".venv" / ".ready").touch()

    def set_up(root: Path) -> str:
        done = subprocess.run(["make", "--dry-run", "setup"], cwd=root, capture_output=True, text=True, check=True)
        return done.stdout

    assert "uv pip sync" not in set_up(was)
    was.rename(now)
    assert "uv pip sync" in set_up(now)
