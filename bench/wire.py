"""Accuracy of a running server on the test images, by each protocol that it speaks."""

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import requests
from PIL import Image

from pipeline.data.datasets import Split

BATCH = 500  # images a request, except of pictures

Ask = Callable[[requests.Session, str, str, Any], Any]


def _mlflow(session: requests.Session, address: str, name: str, images: Any) -> Any:
    answer = session.post(f"{address}/invocations", json={"inputs": images.tolist()}).json()
    return answer["predictions"]["probabilities"]


def _tensor(images: Any, **more: Any) -> dict[str, Any]:
    return {"name": "image", "datatype": "UINT8", "shape": images.shape, **more}


def _open_inference(session: requests.Session, address: str, name: str, images: Any) -> Any:
    body = {"inputs": [_tensor(images, data=images.ravel().tolist())]}
    answer = session.post(f"{address}/v2/models/{name}/infer", json=body).json()
    return np.reshape(answer["outputs"][0]["data"], (len(images), -1))


def _binary(session: requests.Session, address: str, name: str, images: Any) -> Any:
    tensor = _tensor(images, parameters={"binary_data_size": images.nbytes})
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    sent = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    answer = session.post(f"{address}/v2/models/{name}/infer", head + images.tobytes(), headers=sent)
    length = int(answer.headers["Inference-Header-Content-Length"])
    return np.frombuffer(answer.content, "<f4", offset=length).reshape(len(images), -1)


def _picture(session: requests.Session, address: str, name: str, images: Any) -> Any:
    rows = []
    for image in images:
        out = io.BytesIO()
        Image.fromarray(image).save(out, "PNG")
        answer = session.post(f"{address}/predict", out.getvalue(), headers={"Content-Type": "image/png"}).json()
        rows.append(list(answer["probabilities"].values()))
    return rows


PROTOCOLS: dict[str, Ask] = {
    "MLflow, JSON": _mlflow,
    "Open Inference, JSON": _open_inference,
    "Open Inference, binary": _binary,
    "a PNG a request": _picture,
}


def accuracies(address: str, name: str, test: Split) -> dict[str, float]:
    """The share of test images whose class the server at `address` predicts, by protocol."""
    found = {}
    for protocol, ask in PROTOCOLS.items():
        with requests.Session() as session:
            correct = 0
            for start in range(0, len(test.labels), BATCH):
                images, labels = np.asarray(test.images[start : start + BATCH]), test.labels[start : start + BATCH]
                correct += int((np.argmax(ask(session, address, name, images), axis=1) == labels).sum())
        found[protocol] = correct / len(test.labels)
    return found
