import shutil
from pathlib import Path

import pytest

from pipeline.core import files
from pipeline.serving.served_model import open_file
from tests.conftest import Repository


@pytest.mark.parametrize("name", ["model.onnx", "model.int8.onnx"])
def test_each_file_is_checked_by_its_own_test_vectors(name: str, built: Repository, tmp_path: Path) -> None:
    for path in (built.paths.onnx, built.paths.int8, built.paths.contract):
        shutil.copy(path, tmp_path)

    served = open_file(tmp_path / name, "digits", None)

    assert (served.version, served.layout) == (served.sha256[:12], "mnist")


def test_a_contract_of_an_earlier_version_states_no_layout(built: Repository, tmp_path: Path) -> None:
    shutil.copy(built.paths.onnx, tmp_path)
    contract = files.read_json(built.paths.contract)
    del contract["input"]["layout"]
    files.write_json(tmp_path / "contract.json", contract)

    assert open_file(tmp_path / "model.onnx", "digits", None).layout is None
