"""Other servers and runtimes: what docs/serving.md shows for them agrees with contract.json, and they answer the same."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from ruamel.yaml import YAML

from pipeline.core import files, params
from tests.chaos.conftest import LONG
from tests.conftest import Repository
from tests.imports import ROOT

PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
TYPES = {"TYPE_UINT8": "uint8", "TYPE_FP32": "float32"}


@pytest.fixture(scope="module")
def contract(built: Repository) -> Any:
    return files.read_json(built.paths.contract)


def shown(language: str, text: str) -> str:
    """The block of code on the page that has `text` in it."""
    blocks: list[str] = re.findall(rf"(?ms)^```{language}\n(.*?)^```", PAGE)
    return next(block for block in blocks if text in block)


def tensors(config: str) -> dict[str, Any]:
    """Name, type and shape of the tensors in a config.pbtxt."""
    found = re.findall(r'(input|output) \[ { name: "(\w+)" data_type: (\w+) dims: \[ ([\d, ]+) \] } \]', config)
    return {
        kind: {"name": name, "dtype": TYPES[dtype], "shape": ["batch", *map(int, dims.split(","))]}
        for kind, name, dtype, dims in found
    }


def test_the_configuration_of_triton_is_that_of_the_contract(contract: Any) -> None:
    config = shown("protobuf", "onnxruntime_onnx")

    assert tensors(config) == {
        kind: {key: contract[kind][key] for key in ("name", "dtype", "shape")} for kind in ("input", "output")
    }
    assert f'name: "{params.load(ROOT / "params.yaml").tracking.model}"' in config
    assert config.count("{") == config.count("}")


def test_the_manifest_of_kserve_names_the_model_and_its_protocol() -> None:
    manifest = YAML(typ="safe").load(shown("yaml", "InferenceService"))

    assert manifest["metadata"]["name"] == params.load(ROOT / "params.yaml").tracking.model
    assert manifest["spec"]["predictor"]["model"]["modelFormat"] == {"name": "onnx"}
    assert manifest["spec"]["predictor"]["model"]["protocolVersion"] == "v2"


def test_the_reference_evaluator_of_onnx_answers_the_same(built: Repository, contract: Any) -> None:
    vectors = contract["test_vectors"]
    images = np.array(vectors["image"], np.uint8)

    (found,) = ReferenceEvaluator(onnx.load(built.paths.onnx)).run(None, {"image": images})

    expected = vectors["probabilities"]
    np.testing.assert_allclose(found, expected["model.onnx"] if isinstance(expected, dict) else expected, atol=1e-4)


# How each runtime, installed by its package, turns the file `sys.argv[1]` and `images` into `found`.
RUNTIMES = {
    "openvino": (
        "import openvino\nexact = {'INFERENCE_PRECISION_HINT': 'f32'}\n"
        "found = openvino.compile_model(sys.argv[1], 'CPU', exact)(images)[0]"
    ),
    "opencv-python-headless>=5": (
        "import cv2\nnetwork = cv2.dnn.readNetFromONNX(sys.argv[1])\nnetwork.setInput(images)\nfound = network.forward()"
    ),
    "onnxruntime==1.20.1": (
        "import onnxruntime\nfound = onnxruntime.InferenceSession(sys.argv[1]).run(None, {'image': images})[0]"
    ),
}


@pytest.mark.skipif(not LONG, reason="installs packages: make chaos")
@pytest.mark.parametrize("package", RUNTIMES)
def test_another_runtime_answers_the_same(built: Repository, contract: Any, tmp_path: Path, package: str) -> None:
    vectors = contract["test_vectors"]
    np.save(tmp_path / "images.npy", np.array(vectors["image"], np.uint8))
    load, save = "images = np.load(sys.argv[2])", "np.save(sys.argv[3], found)"
    (tmp_path / "run.py").write_text(f"import sys\nimport numpy as np\n{load}\n{RUNTIMES[package]}\n{save}\n")
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(["uv", "--quiet", "venv", "--python", sys.executable, str(tmp_path / "venv")], check=True)
    subprocess.run(["uv", "--quiet", "pip", "install", "--python", str(python), package, "numpy"], check=True)

    arguments = [str(built.paths.onnx), str(tmp_path / "images.npy"), str(tmp_path / "found.npy")]
    subprocess.run([str(python), str(tmp_path / "run.py"), *arguments], check=True)

    expected = vectors["probabilities"]
    expected = expected["model.onnx"] if isinstance(expected, dict) else expected
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, atol=1e-4)
