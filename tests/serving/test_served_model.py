import shutil
from pathlib import Path

import pytest

from pipeline.serving.served_model import open_file
from tests.conftest import Repository


@pytest.mark.parametrize("name", ["model.onnx", "model.int8.onnx"])
def test_each_file_is_checked_by_its_own_test_vectors(name: str, built: Repository, tmp_path: Path) -> None:
    for path in (built.paths.onnx, built.paths.int8, built.paths.contract):
        shutil.copy(path, tmp_path)

    served = open_file(tmp_path / name, "digits", None)

    assert served.version == served.sha256[:12]
