"""What a run holds in a real MLflow store, without duplicates. Failing stores: tests/chaos/test_store.py."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from pipeline import register
from pipeline.core import files
from pipeline.core.errors import MissingInputError
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.data.datasets import Split
from pipeline.inference.onnx_model import OnnxModel
from pipeline.tracking import run_owner, runs
from pipeline.tracking.connection import connected
from tests.chaos.conftest import LONG
from tests.conftest import Repository, idx, small_repository
from tests.imports import ROOT


@pytest.fixture
def repository(built: Repository, empty_store: Path, tmp_path: Path) -> Repository:
    """A copy of the built tree with an empty store."""
    paths = Paths(tmp_path)
    shutil.copytree(built.paths.data, paths.data)
    shutil.copy(built.paths.params, tmp_path)
    paths.store.mkdir()
    shutil.copy(empty_store, paths.database)
    return Repository(built.params, paths)


@pytest.fixture
def client(repository: Repository) -> Any:
    return mlflow.MlflowClient(repository.paths.tracking_uri)


def artifacts(client: Any, run_id: str, folder: str = "") -> set[str]:
    return {entry.path for entry in client.list_artifacts(run_id, folder)}


@pytest.fixture(scope="module")
def registered(built: Repository) -> tuple[Any, str]:
    """The run that train opened and register completed."""
    return mlflow.MlflowClient(built.paths.tracking_uri), files.read_json(built.paths.registration)["run_id"]


def test_train_and_register_share_one_run(built: Repository, registered: tuple[Any, str]) -> None:
    client, run_id = registered

    listed = client.search_runs([client.get_experiment_by_name("mnist").experiment_id])

    assert [run.info.run_id for run in listed] == [run_id] == [files.read_json(built.paths.run)["run_id"]]
    assert listed[0].info.status == "FINISHED"
    assert "rebuilt_from" not in listed[0].data.tags


def test_the_run_holds_parameters_curves_metrics_and_data(built: Repository, registered: tuple[Any, str]) -> None:
    client, run_id = registered
    run, metrics = client.get_run(run_id), files.read_json(built.paths.metrics)

    assert run.data.params["train.epochs"] == "2"
    assert run.data.params["model.hidden_units"] == "(256,)"
    assert [point.step for point in client.get_metric_history(run_id, "epoch/val_accuracy")] == [1, 2]
    assert run.data.metrics["test/accuracy"] == metrics["accuracy"]
    assert run.data.metrics["test/int8/accuracy"] == metrics["int8"]["accuracy"]
    assert any(name.startswith("system/") for name in run.data.metrics)


def test_the_run_describes_its_data_like_mlflow(built: Repository, registered: tuple[Any, str]) -> None:
    client, run_id = registered
    manifest = datasets.read_manifest(built.paths)

    inputs = {entry.dataset.name: entry for entry in client.get_run(run_id).inputs.dataset_inputs}

    assert inputs.keys() == {"mnist-train", "mnist-test"}
    for split, context in (("train", "training"), ("test", "evaluation")):
        entry = inputs[f"mnist-{split}"]
        images, labels = datasets.open_split(built.paths, split)
        expected = mlflow.data.from_numpy(images, targets=labels, source=str(built.paths.raw)).to_dict()
        assert [json.loads(getattr(entry.dataset, key)) for key in ("schema", "profile", "source")] == [
            json.loads(expected[key]) for key in ("schema", "profile", "source")
        ]
        assert [(tag.key, tag.value) for tag in entry.tags] == [("mlflow.data.context", context)]
        (part,) = datasets.segments(manifest, split)
        assert part.sha256.startswith(entry.dataset.digest)


def test_the_run_holds_plots_reports_and_models(registered: tuple[Any, str]) -> None:
    client, run_id = registered

    assert artifacts(client, run_id) >= {"params.yaml", "summary.txt", "history.csv", "metrics.json", "per_class.csv"}
    assert "plots/worst_mistakes.png" in artifacts(client, run_id, "plots")
    validation = {"validation/report.html", "validation/report.json", "validation/data_docs"}
    assert artifacts(client, run_id, "validation") == validation
    assert artifacts(client, run_id, "explorer") == {"explorer/index.html"}
    assert artifacts(client, run_id, "onnx") == {"onnx/model.onnx", "onnx/model.int8.onnx"}


def test_the_registered_model_is_the_exported_file(built: Repository, registered: tuple[Any, str], tmp_path: Path) -> None:
    client, run_id = registered
    mlflow.set_tracking_uri(built.paths.tracking_uri)
    version = client.get_model_version_by_alias("mnist-dense", "challenger")

    folder = mlflow.artifacts.download_artifacts("models:/mnist-dense@challenger", dst_path=str(tmp_path))

    assert version.run_id == run_id
    assert version.tags["onnx_sha256"] == files.sha256(built.paths.onnx)
    assert files.sha256(Path(folder) / "model.onnx") == files.sha256(built.paths.onnx)


def test_the_registered_model_predicts_from_pixels(built: Repository) -> None:
    mlflow.set_tracking_uri(built.paths.tracking_uri)
    images = np.asarray(datasets.open_split(built.paths, "test").images[:5])

    loaded = mlflow.pyfunc.load_model("models:/mnist-dense@challenger")

    found = loaded.predict({"image": images})["probabilities"]
    np.testing.assert_allclose(found, OnnxModel(built.paths.onnx).predict(images), atol=1e-6)
    assert loaded.metadata.signature.inputs.inputs[0].shape == (-1, 28, 28)


def test_register_restores_a_lost_run_with_its_curves(repository: Repository, client: Any) -> None:
    register.run(repository.params, repository.paths)

    run_id = files.read_json(repository.paths.registration)["run_id"]
    run = client.get_run(run_id)
    assert run_id != files.read_json(repository.paths.run)["run_id"]
    assert run.data.tags["rebuilt_from"] == files.read_json(repository.paths.run)["run_id"]
    assert run.info.status == "FINISHED"
    history = repository.paths.history.read_text().splitlines()
    losses = [float(row.split(",")[history[0].split(",").index("loss")]) for row in history[1:]]
    assert [point.value for point in client.get_metric_history(run_id, "epoch/loss")] == losses
    assert run.data.params["train.epochs"] == "2"
    assert "plots/worst_mistakes.png" in artifacts(client, run_id, "plots")


def test_registering_again_duplicates_nothing(repository: Repository, client: Any) -> None:
    for _ in range(2):
        register.run(repository.params, repository.paths)

    versions = client.search_model_versions("name = 'mnist-dense'")
    listed = client.search_runs([client.get_experiment_by_name("mnist").experiment_id])
    assert [version.version for version in versions] == [1]
    assert len(listed) == 1


def test_an_extra_data_set_is_a_separate_input(subset: dict[str, Split], tmp_path: Path) -> None:
    images, labels = (array[2000:2030] for array in subset["train"])
    np.savez(tmp_path / "more.npz", images=images, labels=labels)
    extra = {"name": "more", "source": str(tmp_path / "more.npz")}
    repository = small_repository(tmp_path, subset, {"fetch.extra": [extra]})

    with runs.training_run(repository.params, repository.paths) as live:
        pass

    run = mlflow.MlflowClient(repository.paths.tracking_uri).get_run(live.run_id)
    inputs = {entry.dataset.name: entry for entry in run.inputs.dataset_inputs}
    assert {name: entry.tags[0].value for name, entry in inputs.items()} == {
        "mnist-train": "training",
        "more": "training",
        "mnist-test": "evaluation",
    }
    assert json.loads(inputs["more"].dataset.profile)["features_shape"] == [30, 28, 28]
    assert json.loads(inputs["mnist-train"].dataset.profile)["features_shape"] == [3000, 28, 28]
    assert hashlib.sha256(idx(images) + idx(labels)).hexdigest().startswith(inputs["more"].dataset.digest)


@pytest.mark.parametrize(("error", "status"), [(ValueError("a defect"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_a_training_that_ends_early_leaves_no_running_run(
    repository: Repository, client: Any, error: BaseException, status: str
) -> None:
    with pytest.raises(type(error)), runs.training_run(repository.params, repository.paths) as live:
        raise error

    assert client.get_run(live.run_id).info.status == status


def test_a_run_without_its_data_is_marked_as_failed(repository: Repository, client: Any) -> None:
    repository.paths.manifest.unlink()

    with pytest.raises(MissingInputError), runs.training_run(repository.params, repository.paths):
        raise AssertionError("training began")

    listed = client.search_runs([client.get_experiment_by_name("mnist").experiment_id])
    assert [run.info.status for run in listed] == ["FAILED"]


@pytest.mark.parametrize("resumed", [True, False])
@pytest.mark.parametrize(("error", "status"), [(ValueError("a defect"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_a_registration_that_ends_early_marks_its_run(
    repository: Repository, client: Any, error: BaseException, status: str, resumed: bool
) -> None:
    if resumed:
        register.run(repository.params, repository.paths)

    with pytest.raises(type(error)), runs.completed_run(repository.params, repository.paths) as run_id:
        raise error

    assert client.get_run(run_id).info.status == status
    register.run(repository.params, repository.paths)
    assert client.get_run(run_id).info.status == "FINISHED"


@pytest.mark.parametrize("opened", [runs.training_run, runs.completed_run])
def test_a_run_interrupted_while_it_is_created_is_marked_as_killed(
    opened: Any, repository: Repository, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = mlflow.MlflowClient.create_run

    def create_and_interrupt(*args: Any, **kwargs: Any) -> None:
        create(*args, **kwargs)
        raise KeyboardInterrupt  # before the pipeline knows the run's identifier

    monkeypatch.setattr(mlflow.MlflowClient, "create_run", create_and_interrupt)

    with pytest.raises(KeyboardInterrupt), opened(repository.params, repository.paths):
        raise AssertionError("it went on")

    listed = client.search_runs([client.get_experiment_by_name("mnist").experiment_id])
    assert [run.info.status for run in listed] == ["KILLED"]


QUERYING = """
import os, signal, sys
import sqlalchemy
from pipeline.core import console
from pipeline.tracking import run_owner, runs
from pipeline.tracking.connection import connected

def run(params, paths):
    with runs.training_run(params, paths):
        with sqlalchemy.create_engine(paths.tracking_uri).connect() as connection:
            rows = connection.execute(sqlalchemy.text("SELECT key FROM params"))
            os.kill(os.getpid(), signal.SIGTERM)
            print(len(rows.all()) > 1)
        print("it went on")

sys.exit(console.run_stage("querying", run))
"""


IMPORTING = """
import os, signal, sys
from pipeline import register
from pipeline.core import console

class Swallowing:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "onnx":
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            except BaseException:  # like native code during an import, or it aborts the process
                pass

sys.meta_path.insert(0, Swallowing)
sys.exit(console.run_stage("importing", register.run))
"""


def run(code: str, repository: Repository) -> "subprocess.CompletedProcess[str]":
    """Run `code` in a separate process, in the folder of the tree."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=repository.paths.root, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("code", "printed"), [(QUERYING, "True"), (IMPORTING, "")][: 2 if LONG else 1])
def test_a_signal_during_a_query_or_an_import_is_not_lost(
    code: str, printed: str, repository: Repository, client: Any
) -> None:
    done = run(code, repository)

    assert (done.returncode, done.stdout.strip()) == (130, printed), done.stderr
    listed = client.search_runs([client.get_experiment_by_name("mnist").experiment_id])
    assert [run.info.status for run in listed] == ["KILLED"]


STUCK = """
import os, sys, time
from pipeline.core import console
from pipeline.tracking import run_owner, runs
from pipeline.tracking.connection import connected

def run(params, paths):
    with runs.{run}(params, paths) as found:
        while True:
            try:
                os.write(1, f"{{getattr(found, 'run_id', found)}}\\n".encode())  # print() is suppressed here
                time.sleep(60)
            except BaseException:
                pass

sys.exit(console.run_stage("stuck", run))
"""


@pytest.mark.parametrize("run", ["training_run", "completed_run"] if LONG else ["training_run"])
def test_a_run_whose_process_ignores_the_signal_is_marked_as_killed(run: str, repository: Repository, client: Any) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", STUCK.format(run=run)]
    with subprocess.Popen(command, cwd=repository.paths.root, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        run_id = process.stdout.readline().strip()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 130

    assert client.get_run(run_id).info.status == "KILLED"


def test_a_run_that_a_power_cut_left_running_is_ended_also_if_an_earlier_version_opened_it(
    repository: Repository, client: Any
) -> None:
    with connected(repository.params, repository.paths) as experiment:
        owner = run_owner.this_process(repository.paths.store)._replace(started="1")  # another process has this id now
        earlier = {f"runner.{name}": value for name, value in owner._asdict().items()}
        left = [client.create_run(experiment, tags=tags) for tags in (owner.tags(), earlier)]
        elsewhere = client.create_run(experiment, tags=owner._replace(host="another").tags())

    register.run(repository.params, repository.paths)

    assert [client.get_run(run.info.run_id).info.status for run in left] == ["KILLED", "KILLED"]
    assert client.get_run(elsewhere.info.run_id).info.status == "RUNNING"
