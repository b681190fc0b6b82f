"""After a checkout was moved or copied, its default store points to the artifacts beside it."""

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

RECORDS = {
    ("tags", "value"),
    ("logged_model_tags", "tag_value"),
    ("datasets", "dataset_source"),
}  # records of the past, which stay


@pytest.fixture
def copied(built: Repository, tmp_path: Path) -> Repository:
    """A copy of the built tree with its store, in a folder whose name must be quoted in a URI."""
    root = tmp_path / "mövéd here #1"
    shutil.copytree(built.paths.root, root)
    return Repository(built.params, Paths(root))


def mentions(database: Path, folder: Path) -> set[tuple[str, str]]:
    """The tables and columns of the store that contain the folder, as a path or as a URI."""
    found = set()
    with closing(sqlite3.connect(database)) as store:
        for (table,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for _, column, *_ in store.execute(f'PRAGMA table_info("{table}")').fetchall():
                for (value,) in store.execute(f'SELECT "{column}" FROM "{table}"'):
                    if any(f"{location}/" in str(value) for location in (folder, folder.as_uri())):
                        found.add((table, column))
    return found


def test_after_a_move_no_path_points_to_the_old_folder(built: Repository, copied: Repository) -> None:
    assert relocation.follow(copied.paths) == [built.paths.store]

    assert mentions(copied.paths.database, built.paths.root) <= RECORDS
    assert mentions(copied.paths.database, copied.paths.root) - {("experiments", "artifact_location")} == {
        ("runs", "artifact_uri"),
        ("logged_models", "artifact_location"),
        ("model_versions", "storage_location"),
    }


def test_artifacts_and_model_of_a_moved_checkout_load(copied: Repository, tmp_path: Path) -> None:
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


def test_a_copy_registers_into_its_own_store(built: Repository, copied: Repository) -> None:
    def original() -> list[Path]:
        return sorted(built.paths.store.rglob("*"))

    before, digest = original(), files.sha256(built.paths.database)
    copied.paths.onnx.write_bytes(copied.paths.int8.read_bytes())  # another model, to get another version

    register.run(copied.params, copied.paths)

    assert (original(), files.sha256(built.paths.database)) == (before, digest)
    version = mlflow.MlflowClient(copied.paths.tracking_uri).get_model_version_by_alias("mnist-dense", "challenger")
    assert version.version == 2
    assert len(list((copied.paths.store / "artifacts" / "models").iterdir())) == 2


def test_the_store_before_the_move_is_kept(built: Repository, copied: Repository) -> None:
    relocation.follow(copied.paths)

    backup = copied.paths.store / "mlflow.db.before-move"
    assert mentions(backup, built.paths.root) == mentions(built.paths.database, built.paths.root)
    assert not mentions(backup, copied.paths.root)


def test_a_store_that_was_not_moved_is_not_written(built: Repository, copied: Repository) -> None:
    relocation.follow(copied.paths)
    (copied.paths.store / "mlflow.db.before-move").unlink()
    digest = files.sha256(copied.paths.database)

    assert relocation.follow(copied.paths) == []

    assert files.sha256(copied.paths.database) == digest
    assert not (copied.paths.store / "mlflow.db.before-move").exists()


def test_a_store_named_by_its_uri_is_not_changed(copied: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = files.sha256(copied.paths.database)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{copied.paths.database}?timeout=10")

    assert relocation.follow(copied.paths) == []

    assert files.sha256(copied.paths.database) == digest


def test_artifacts_of_another_checkout_keep_their_paths(copied: Repository, tmp_path: Path) -> None:
    relocation.follow(copied.paths)
    theirs = tmp_path / "another" / "mlruns" / "artifacts"
    client = mlflow.MlflowClient(copied.paths.tracking_uri)
    run = client.create_run(client.create_experiment("theirs", artifact_location=theirs.as_uri()))
    client.log_text(run.info.run_id, "kept there", "note.txt")

    assert relocation.follow(copied.paths) == []

    found = mlflow.artifacts.load_text(f"{client.get_run(run.info.run_id).info.artifact_uri}/note.txt")
    assert found == "kept there"


def test_an_experiment_of_another_checkout_keeps_its_path_before_its_first_run(copied: Repository, tmp_path: Path) -> None:
    relocation.follow(copied.paths)
    theirs = tmp_path / "another" / "mlruns" / "artifacts"
    theirs.parent.mkdir(parents=True)  # its lock file is there
    client = mlflow.MlflowClient(copied.paths.tracking_uri)
    experiment = client.create_experiment("theirs", artifact_location=theirs.as_uri())

    assert relocation.follow(copied.paths) == []

    assert client.get_experiment(experiment).artifact_location == theirs.as_uri()


def test_an_experiment_without_runs_follows_a_moved_checkout(copied: Repository, tmp_path: Path) -> None:
    relocation.follow(copied.paths)
    gone = tmp_path / "gone" / "mlruns" / "artifacts"
    client = mlflow.MlflowClient(copied.paths.tracking_uri)
    experiment = client.create_experiment("new", artifact_location=gone.as_uri())

    assert relocation.follow(copied.paths) == [gone.parent]

    assert client.get_experiment(experiment).artifact_location == (copied.paths.store / "artifacts").as_uri()


def test_several_processes_may_open_a_moved_store_at_once(copied: Repository) -> None:
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


def test_a_file_that_is_no_database_raises_an_error(copied: Repository) -> None:
    copied.paths.database.write_bytes(b"no database" * 1000)

    with pytest.raises(TrackingError, match="file is not a database"):
        relocation.follow(copied.paths)


def test_make_sets_up_an_environment_again_after_a_move(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    for name in ("Makefile", "requirements.txt"):
        shutil.copy(ROOT / name, old)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", old / ".venv"], check=True)
    (old / ".venv" / ".ready").write_text(f"{old}\n")

    def set_up(root: Path) -> str:
        done = subprocess.run(["make", "--dry-run", "setup"], cwd=root, capture_output=True, text=True, check=True)
        return done.stdout

    assert "uv pip sync" not in set_up(old)
    old.rename(new)
    assert "uv pip sync" in set_up(new)
