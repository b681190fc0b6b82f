"""A server without a socket, for tests of what it answers."""

from typing import Any

import numpy as np
import pytest

from pipeline.data.datasets import Split
from pipeline.inference.onnx_model import OnnxModel
from tests.conftest import Repository
from tests.serving.asgi import Client, opened


@pytest.fixture(scope="session")
def client(built: Repository) -> Client:
    return Client(opened(built.paths.onnx))


@pytest.fixture(scope="session")
def images(subset: dict[str, Split]) -> Any:
    return np.array(subset["test"].images[:3])


@pytest.fixture(scope="session")
def expected(built: Repository, images: Any) -> Any:
    return OnnxModel(built.paths.onnx).predict(images)
