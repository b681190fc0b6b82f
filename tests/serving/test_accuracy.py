"""The accuracy that the server reaches on the test images, by each protocol, is the one in metrics.json."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline.core import files
from pipeline.data import datasets
from pipeline.data.datasets import Split
from tests.conftest import Repository
from tests.serving.asgi import NAME, Client

INFER = f"/v2/models/{NAME}/infer"


def by_mlflow(client: Client, images: Any) -> Any:
    return client.post("/invocations", {"inputs": images.tolist()}).content["predictions"]["probabilities"]


def by_json(client: Client, images: Any) -> Any:
    tensor = {"name": "image", "datatype": "UINT8", "shape": images.shape, "data": images.ravel().tolist()}
    return np.reshape(client.post(INFER, {"inputs": [tensor]}).content["outputs"][0]["data"], (len(images), -1))


def by_bytes(client: Client, images: Any) -> Any:
    tensor = {"name": "image", "datatype": "UINT8", "shape": images.shape, "parameters": {"binary_data_size": images.nbytes}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    response = client.ask("POST", INFER, head + images.tobytes(), Inference_Header_Content_Length=str(len(head)))
    length = int(response.headers["inference-header-content-length"])
    return np.frombuffer(response.body, "<f4", offset=length).reshape(len(images), -1)


@pytest.fixture(scope="module")
def split(built: Repository) -> Split:
    return datasets.load(built.paths, "test")


@pytest.mark.parametrize("ask", [by_mlflow, by_json, by_bytes])
def test_the_accuracy_over_the_wire_is_that_of_the_metrics(
    client: Client, built: Repository, split: Split, ask: Callable[[Client, Any], Any]
) -> None:
    images, correct = np.asarray(split.images), 0
    for start in range(0, len(images), 500):
        predicted = np.argmax(ask(client, images[start : start + 500]), axis=1)
        correct += int((predicted == split.labels[start : start + 500]).sum())

    assert correct / len(images) == files.read_json(built.paths.metrics)["accuracy"]
