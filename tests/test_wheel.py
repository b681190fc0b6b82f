"""The wheel: what is in it, and that it predicts and serves without a checkout."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from pipeline.core import files
from pipeline.inference.onnx_model import OnnxModel
from tests.chaos.conftest import LONG
from tests.conftest import Repository
from tests.imports import ROOT
from tests.servers import free_port, wait_until_healthy

UV = Path(sys.executable).with_name("uv")
# Runs the wheel's command with the packages of this environment, as the script that an installer writes for it does.
SCRIPT = """
import sys
from importlib.metadata import distribution
(command,) = distribution("mnist-pipeline").entry_points.select(group="console_scripts")
sys.argv[0] = f"/bin/{command.name}"
sys.exit(command.load()())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built without network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [UV, "build", "--quiet", "--offline", "--wheel", "--out-dir", folder, ROOT]
    subprocess.run(command, check=True)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture
def elsewhere(built: Repository, tmp_path: Path) -> Path:
    """A folder that is no checkout: a model with its contract, and a picture."""
    shutil.copy(built.paths.onnx, tmp_path / "model.onnx")
    shutil.copy(built.paths.contract, tmp_path / "contract.json")
    image = np.array(files.read_json(built.paths.contract)["test_vectors"]["image"][0], np.uint8)
    Image.fromarray(255 - image).resize((140, 140)).save(tmp_path / "photo.png")
    np.save(tmp_path / "image.npy", image)
    return tmp_path


def run(elsewhere: Path, wheel: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(elsewhere / "site")
    environment = {"PATH": "", "PYTHONPATH": str(elsewhere / "site"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-P", "-c", SCRIPT, *arguments]
    return subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)


def test_the_wheel_has_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "pipeline"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()

    packed = {name for name in names if not name.startswith("mnist_pipeline-")}
    assert packed == {name for name in listed if (ROOT / name).exists()}
    assert {"pipeline/serve.py", "pipeline/explorer/web/index.html", "pipeline/monitoring/web/label.js"} <= packed
    assert "licenses/LICENSE" in " ".join(names)


def test_its_command_predicts_a_picture_without_a_checkout(elsewhere: Path, wheel: Path) -> None:
    done = run(elsewhere, wheel, "predict", "--json", "--model", "model.onnx", "photo.png", "image.npy")

    assert done.returncode == 0, done.stderr
    picture, array = json.loads(done.stdout)
    expected = files.read_json(elsewhere / "contract.json")
    names, probabilities = expected["classes"], expected["test_vectors"]["probabilities"][0]
    assert picture["images"][0]["label"] == array["images"][0]["label"] == names[int(np.argmax(probabilities))]
    assert "centred by mass" in picture["changes"][1]
    assert sorted(path.name for path in elsewhere.iterdir()) == [
        "contract.json",
        "image.npy",
        "model.onnx",
        "photo.png",
        "site",
    ]


def test_without_a_checkout_what_is_missing_is_named(elsewhere: Path, wheel: Path) -> None:
    (elsewhere / "contract.json").unlink()

    unlike, arrays = (run(elsewhere, wheel, "predict", "--model", "model.onnx", name) for name in ("photo.png", "image.npy"))
    given = run(elsewhere, wheel, "predict", "--model", "model.onnx", "--layout", "as_is", "photo.png")
    no_model = run(elsewhere, wheel, "predict", "photo.png")
    alias = run(elsewhere, wheel, "serve", "--port", str(free_port()))
    no_file = run(elsewhere, wheel, "serve", "--port", str(free_port()), "--model", "absent.onnx")

    assert (unlike.returncode, arrays.returncode, given.returncode) == (1, 0, 0), arrays.stderr + given.stderr
    assert (
        "expected contract.json beside the model, to say the layout of its images, or --layout; found neither" in unlike.stderr
    )
    assert "inverted" not in given.stdout
    assert (no_model.returncode, alias.returncode, no_file.returncode) == (1, 1, 1)
    assert "absent.onnx: expected this file, found none.\n" in no_file.stderr
    assert (
        "expected an ONNX file, or a checkout with data/model/model.onnx, found a folder without params.yaml"
        in no_model.stderr
    )
    assert "expected an ONNX file, or a checkout whose registry has champion, found a folder without" in alias.stderr


long = pytest.mark.skipif(not LONG, reason="installs packages: make chaos")


@pytest.fixture(scope="module")
def script(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command in an environment that has the wheel and its dependencies alone."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([UV, "--quiet", "venv", "--python", sys.executable, folder], check=True)
    locked = ["--constraint", ROOT / "requirements" / "serve.txt"]
    subprocess.run([UV, "--quiet", "pip", "install", "--python", folder / "bin" / "python", *locked, wheel], check=True)
    return folder / "bin" / "mnist-pipeline"


def installed(script: Path, elsewhere: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": "", "HOME": "/nonexistent"}
    return subprocess.run([script, *arguments], cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)


@long
def test_installed_into_an_empty_environment_it_predicts(script: Path, elsewhere: Path) -> None:
    done = installed(script, elsewhere, "predict", "--json", "--model", "model.onnx", "photo.png")

    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)
    image = files.read_json(elsewhere / "contract.json")["test_vectors"]["image"]
    assert (
        int(result["images"][0]["label"]) == OnnxModel(elsewhere / "model.onnx").predict(np.array(image, np.uint8))[0].argmax()
    )


@long
@pytest.mark.parametrize("verb", ["validate", "promote"])
def test_a_verb_whose_packages_are_not_installed_names_the_package(verb: str, script: Path, elsewhere: Path) -> None:
    shutil.copy(ROOT / "params.yaml", elsewhere)

    done = installed(script, elsewhere, verb)

    assert done.returncode == 1
    assert "expected this package, found none.\n" in done.stderr
    assert "`pip install 'WHEEL[train]'`" in done.stderr


@pytest.fixture(params=["1", "2"], ids=["one", "two"])
def port(request: Any, script: Path, elsewhere: Path) -> Iterator[int]:
    """The port of an installed server, with one worker or two."""
    (elsewhere / "pipeline.py").write_text("raise SystemExit('a module of the name that somebody else wrote')")
    sha256 = files.sha256(elsewhere / "model.onnx")
    command = [script, "serve", "--port", str(port := free_port()), "--model", ".", "--sha256", sha256]
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    process = subprocess.Popen([*command, "--workers", request.param], cwd=elsewhere, env=environment)
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}", process)
        yield port
    finally:
        process.terminate()
        process.wait()


@long
def test_installed_into_an_empty_environment_it_serves(port: int, elsewhere: Path) -> None:
    url = f"http://127.0.0.1:{port}"
    vectors = files.read_json(elsewhere / "contract.json")["test_vectors"]

    answered = requests.post(f"{url}/invocations", json={"inputs": vectors["image"]}, timeout=60).json()
    found = answered["predictions"]["probabilities"]
    picture = requests.post(f"{url}/predict", data=(elsewhere / "photo.png").read_bytes(), timeout=60).json()

    np.testing.assert_allclose(found, vectors["probabilities"], atol=vectors["tolerance"])
    assert int(picture["label"]) == int(np.argmax(found[0]))
    assert requests.get(f"{url}/v2/models/model", timeout=60).json()["name"] == "model"
