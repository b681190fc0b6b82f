"""The container of the server: what its Dockerfile says, and what its lock can do without a container engine."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline.core import files
from tests.chaos.conftest import LONG
from tests.conftest import Repository
from tests.imports import MODULES, ROOT, closure, imported
from tests.servers import free_port, mlflow_server, wait_until_healthy

DOCKERFILE = (ROOT / "serving" / "Dockerfile").read_text(encoding="utf-8")
MOST_MEGABYTES = 560  # 531 with SciPy, which reads photographs; TensorFlow alone has more than 1,000

long = pytest.mark.skipif(not LONG, reason="installs packages: make chaos")


def test_the_image_runs_as_another_user_with_locked_packages_and_a_health_check() -> None:
    lines = [line for line in re.sub(r"\\\n", " ", DOCKERFILE).splitlines() if line and not line.startswith("#")]
    kinds = [line.split()[0] for line in lines]

    assert kinds.index("USER") < kinds.index("ENTRYPOINT")
    assert re.search(r"(?m)^USER [1-9]\d+$", DOCKERFILE)
    assert "--require-hashes --requirement /serve.txt" in DOCKERFILE
    assert "/health" in next(line for line in lines if line.startswith("HEALTHCHECK"))
    copied = [line.split()[1] for line in lines if line.startswith("COPY") and "--from" not in line]
    assert copied == ["requirements/serve.txt", "params.yaml", "pipeline"]


@pytest.mark.parametrize("verb", ["predict", "serve"])
def test_the_dependencies_without_extras_have_what_the_verb_imports(verb: str) -> None:
    base = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    named = {canonicalize_name(Requirement(line).name) for line in base}
    found = {name.split(".")[0] for module in closure(f"pipeline.{verb}") for name in imported(MODULES[module])}
    packages = importlib.metadata.packages_distributions()
    # A SQLite store is not in the container, so neither is SQLAlchemy.
    needed = found - sys.stdlib_module_names - {"pipeline", "sqlalchemy"}

    missing = {name for name in needed if not named & {canonicalize_name(package) for package in packages[name]}}
    assert missing == set()


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with requirements/serve.txt alone."""
    folder = tmp_path_factory.mktemp("serve") / "venv"
    uv = ["uv", "--quiet"]
    subprocess.run([*uv, "venv", "--python", sys.executable, str(folder)], check=True)
    install = ["pip", "install", "--require-hashes", "--python", str(folder / "bin" / "python")]
    subprocess.run([*uv, *install, "--requirement", str(ROOT / "requirements" / "serve.txt")], check=True)
    return folder / "bin" / "python"


@pytest.fixture
def image(built: Repository, tmp_path: Path) -> Path:
    """The files that the image holds."""
    shutil.copytree(ROOT / "pipeline", tmp_path / "app" / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "params.yaml", tmp_path / "app")
    return tmp_path / "app"


@long
def test_the_environment_is_small_and_has_no_tensorflow(python: Path) -> None:
    for name in ("tensorflow", "keras", "dvc", "great_expectations"):
        done = subprocess.run([python, "-c", f"import {name}"], capture_output=True, text=True, check=False)
        assert f"No module named '{name}'" in done.stderr
    size = sum(path.stat().st_size for path in python.parents[1].rglob("*") if path.is_file() and not path.is_symlink())

    assert size < MOST_MEGABYTES * 1_000_000, f"{size:,} bytes"


def answers(python: Path, image: Path, *arguments: str, **settings: str) -> Iterator[int]:
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1", **settings}
    command = [str(python), "-m", "pipeline.serve", "--port", str(port := free_port()), *arguments]
    process = subprocess.Popen(command, cwd=image, env=environment)
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}", process)
        yield port
    finally:
        process.kill()
        process.wait()


def check(port: int, contract: Any) -> None:
    vectors = contract["test_vectors"]
    response = requests.post(f"http://127.0.0.1:{port}/invocations", json={"inputs": vectors["image"]}, timeout=60)
    found = response.json()["predictions"]["probabilities"]
    np.testing.assert_allclose(found, vectors["probabilities"], atol=vectors["tolerance"])


@long
def test_it_serves_a_file_that_is_mounted_in(built: Repository, python: Path, image: Path) -> None:
    arguments = ("--model", str(built.paths.onnx.absolute()), "--sha256", files.sha256(built.paths.onnx))
    for port in answers(python, image, *arguments):
        check(port, files.read_json(built.paths.contract))


@long
def test_it_serves_a_version_of_a_registry(
    built: Repository, python: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline import register
    from pipeline.core.paths import Paths

    shutil.copytree(built.paths.root, tmp_path / "tree", ignore=shutil.ignore_patterns("mlruns", "source"))
    (tmp_path / "server").mkdir()
    with mlflow_server(tmp_path / "server") as (uri, _):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        register.run(built.params, Paths(tmp_path / "tree"))
        for port in answers(python, image, "--alias", "challenger", MLFLOW_TRACKING_URI=uri):
            check(port, files.read_json(built.paths.contract))
