"""All of MNIST in each layout gives the arrays whose hashes params.yaml pins, and the same model. For `make chaos` alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import fetch
from pipeline.core import files
from pipeline.core.paths import Paths
from tests.chaos.conftest import LONG, Chaos
from tests.conftest import Edit, pass_validation
from tests.imports import ROOT
from tests.ingestion.writers import WRITERS, Data

pytestmark = pytest.mark.skipif(not LONG, reason="writes all of MNIST in each layout")

KIND = "Layouts"
MODELS: dict[str, str] = {}  # the SHA-256 of the trained model, by layout


@pytest.mark.parametrize("kind", WRITERS)
def test_all_of_mnist_in_this_layout_gives_the_pinned_arrays_and_the_same_model(
    kind: str, mnist: Data, edit: Edit, chaos: Chaos, tmp_path: Path
) -> None:
    (tmp_path / "data set").mkdir()
    source = WRITERS[kind](tmp_path / "data set", mnist)
    params, paths = edit({"fetch.sources": [str(source)], "train.epochs": 2}), Paths()

    fetch.run(params, paths)  # other arrays than the pinned ones are refused
    pass_validation(paths)
    for stage in ("train", "export"):
        subprocess.run([sys.executable, "-m", f"pipeline.{stage}"], check=True, env={"PYTHONPATH": str(ROOT)})

    MODELS[kind] = files.sha256(paths.onnx)
    chaos.count(KIND, f"{kind}: the pinned arrays and the same model", 1, int(len({*MODELS.values()}) == 1))
