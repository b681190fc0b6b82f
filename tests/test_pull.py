"""Download the model like its users: into an empty folder, with git and DVC or from MLflow."""

import getpass
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest

from pipeline.core import files
from pipeline.core.paths import Paths
from pipeline.data.datasets import Split
from tests.conftest import Repository, write_source
from tests.servers import ssh_server

IDENTITY = ("-c", "user.name=tester", "-c", "user.email=tester@localhost")

# Stands for the pipeline: one stage that writes the model to the same path.
DVC_YAML = """
stages:
  export:
    cmd: mkdir -p data/model && cp model.source data/model/model.onnx
    deps: [model.source]
    outs: [data/model/model.onnx]
artifacts:
  mnist-dense:
    path: data/model/model.onnx
    type: model
"""


@dataclass(frozen=True)
class Published:
    """A bare git repository, the tree that is pushed to it, and a DVC remote."""

    origin: Path
    tree: Path

    def run(self, *command: str) -> None:
        done = subprocess.run(command, cwd=self.tree, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def publish(self, model: Path, *tags: str) -> None:
        """Run the stage with `model`, and push commit, tags and output."""
        shutil.copy(model, self.tree / "model.source")
        self.run(sys.executable, "-m", "dvc", "repro", "--quiet")
        self.run(sys.executable, "-m", "dvc", "push", "--quiet")
        self.run("git", "add", "--all")
        self.run("git", *IDENTITY, "commit", "--quiet", "--message", "Model")
        for tag in tags:
            self.run("git", *IDENTITY, "tag", "--annotate", "--message", tag, tag)
        self.run("git", "push", "--quiet", "--follow-tags", str(self.origin), "HEAD:main")


@pytest.fixture(scope="module")
def second(built: Repository, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model: the built one with another doc string."""
    proto = onnx.load(built.paths.onnx)
    proto.doc_string = "the second"
    path = tmp_path_factory.mktemp("second") / "model.onnx"
    onnx.save(proto, path)
    return path


@pytest.fixture(scope="module")
def published(built: Repository, second: Path, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """The built model as version 1.0.0 and champion, then another as 1.1.0, in git, with a folder as DVC remote."""
    folder = tmp_path_factory.mktemp("published")
    published = Published(folder / "origin.git", folder / "tree")
    published.tree.mkdir()
    published.run("git", "init", "--quiet", "--bare", "--initial-branch", "main", str(published.origin))
    published.run("git", "init", "--quiet", "--initial-branch", "main")
    published.run(sys.executable, "-m", "dvc", "init", "--quiet")
    published.run(sys.executable, "-m", "dvc", "remote", "add", "--quiet", "--default", "store", str(folder / "store"))
    (published.tree / "dvc.yaml").write_text(DVC_YAML)
    published.publish(built.paths.onnx, "mnist-dense@v1.0.0", "mnist-dense#champion#1")
    published.publish(second, "mnist-dense@v1.1.0")
    return published


@pytest.fixture
def own(published: Published, tmp_path: Path) -> Published:
    """A copy of both repositories, to change."""
    own = Published(tmp_path / "origin.git", tmp_path / "tree")
    shutil.copytree(published.origin, own.origin)
    shutil.copytree(published.tree, own.tree, symlinks=True)
    return own


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def dvc(folder: Path, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_dvc_get_downloads_the_model_of_any_revision(
    published: Published, second: Path, built: Repository, empty: Path
) -> None:
    dvc(empty, "get", str(published.origin), "data/model/model.onnx", "--rev", "mnist-dense@v1.0.0", "--out", "old.onnx")
    dvc(empty, "get", str(published.origin), "data/model/model.onnx", "--rev", "main", "--out", "new.onnx")

    assert files.sha256(empty / "old.onnx") == files.sha256(built.paths.onnx)
    assert files.sha256(empty / "new.onnx") == files.sha256(second)


def test_dvc_artifacts_get_downloads_the_champion_without_a_server(
    published: Published, built: Repository, empty: Path
) -> None:
    dvc(empty, "artifacts", "get", str(published.origin), "mnist-dense", "--stage", "champion", "-o", "model.onnx")

    assert files.sha256(empty / "model.onnx") == files.sha256(built.paths.onnx)


def test_dvc_update_downloads_the_new_version_of_an_imported_model(
    own: Published, second: Path, built: Repository, empty: Path
) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=empty, check=True)
    dvc(empty, "init", "--quiet")
    dvc(empty, "import", str(own.origin), "data/model/model.onnx", "--rev", "main")
    imported = files.sha256(empty / "model.onnx")
    own.publish(built.paths.onnx)

    dvc(empty, "update", "model.onnx.dvc")

    assert imported == files.sha256(second)
    assert files.sha256(empty / "model.onnx") == files.sha256(built.paths.onnx)


def test_outputs_are_pulled_over_ssh(own: Published, second: Path, empty: Path, tmp_path: Path) -> None:
    (tmp_path / "ssh").mkdir()
    with ssh_server(tmp_path / "ssh") as (port, key):
        # The address of the remote is in git; the key is personal.
        address = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{tmp_path}/elsewhere"
        own.run(sys.executable, "-m", "dvc", "remote", "add", "--quiet", "--force", "--default", "store", address)
        own.run(sys.executable, "-m", "dvc", "remote", "modify", "--local", "store", "keyfile", str(key))
        own.run(sys.executable, "-m", "dvc", "push")
        own.run("git", *IDENTITY, "commit", "--all", "--quiet", "--message", "Remote")
        own.run("git", "push", "--quiet", str(own.origin), "HEAD:main")
        own_key = ["--remote", "store", "--remote-config", f"keyfile={key}"]

        dvc(empty, "get", str(own.origin), "data/model/model.onnx", "--rev", "main", *own_key)

    assert files.sha256(empty / "model.onnx") == files.sha256(second)


CLIENT = """
import gzip, json, sys
import numpy as np, onnxruntime

def idx(path, offset):
    return np.frombuffer(gzip.open(path).read(), np.uint8, offset=offset)

source, model = sys.argv[1:]
images = idx(f"{source}/t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
labels = idx(f"{source}/t10k-labels-idx1-ubyte.gz", 8)
(probabilities,) = onnxruntime.InferenceSession(model).run(None, {"image": images})
assert not {"tensorflow", "mlflow", "pipeline"} & set(sys.modules)
print(json.dumps(float((probabilities.argmax(axis=1) == labels).mean())))
"""


def test_a_client_with_only_onnxruntime_and_numpy_gets_the_accuracy_in_metrics_json(
    published: Published, built: Repository, subset: dict[str, Split], empty: Path
) -> None:
    source = write_source(empty / "source", subset)
    dvc(empty, "get", str(published.origin), "data/model/model.onnx", "--rev", "mnist-dense@v1.0.0")

    done = subprocess.run(
        [sys.executable, "-c", CLIENT, str(source), "model.onnx"], cwd=empty, capture_output=True, text=True, check=True
    )

    assert json.loads(done.stdout) == files.read_json(built.paths.metrics)["accuracy"]


MLFLOW_CLIENT = """
import json, sys
sys.modules["tensorflow"] = sys.modules["keras"] = None  # an import of either fails
import mlflow, numpy as np, onnxruntime

folder = mlflow.artifacts.download_artifacts("models:/mnist-dense@challenger", dst_path="pulled")
contract = json.load(open(f"{folder}/contract.json"))
vectors = contract["test_vectors"]
images = np.array(vectors["image"], np.uint8)
results = [
    onnxruntime.InferenceSession(f"{folder}/model.onnx").run(None, {"image": images})[0],
    mlflow.pyfunc.load_model("models:/mnist-dense@challenger").predict({"image": images})["probabilities"],
    onnxruntime.InferenceSession(
        mlflow.onnx.load_model("models:/mnist-dense@challenger").SerializeToString()
    ).run(None, {"image": images})[0],
]
for probabilities in results:
    np.testing.assert_allclose(probabilities, vectors["probabilities"], atol=vectors["tolerance"])
print("# Model card: mnist" in open(f"{folder}/model_card.md").read().splitlines())
"""


def test_mlflow_downloads_model_card_contract_and_test_vectors_without_tensorflow(built: Repository, empty: Path) -> None:
    environment = {"MLFLOW_TRACKING_URI": built.paths.tracking_uri, "PATH": "", "HOME": str(empty)}

    done = subprocess.run(
        [sys.executable, "-c", MLFLOW_CLIENT], cwd=empty, env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "True"


def test_the_contract_names_its_model_files(built: Repository) -> None:
    paths = Paths(built.paths.root)
    contract = files.read_json(paths.contract)

    assert contract["files"] == {path.name: files.sha256(path) for path in (paths.onnx, paths.int8)}
    assert contract["input"]["shape"] == ["batch", 28, 28]
    assert contract["classes"] == [str(digit) for digit in range(10)]
