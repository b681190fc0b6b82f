"""The model that the server answers with, and what it has to prove before it does."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from pipeline.core import files
from pipeline.core.params import Layout
from pipeline.inference.onnx_model import INPUT, OUTPUT, OnnxModel
from pipeline.serving.errors import BrokenContractError, HashMismatchError

CONTRACT = "contract.json"

_THREADS = 1  # more would wait for each other in the cores that answer other requests; `--workers` uses them better


@dataclass(frozen=True, slots=True)
class ServedModel:
    """An open model with the name and version that answers give for it."""

    name: str
    version: str
    sha256: str
    model: OnnxModel
    layout: Layout | None = None  # of the images that it was trained on, if its contract states it


def open_checked(path: Path, name: str, version: str, contract: Path | None, threads: int = _THREADS) -> ServedModel:
    """Open an ONNX file, and compare it with its contract if there is one: hash, input, output, and the test vectors.

    Raises:
        BrokenContractError: they differ.
        UnusableInputError: the file is not an ONNX model with the expected input and output.
    """
    served = ServedModel(name, version, files.sha256(path), OnnxModel(path, threads))
    if contract is None:
        return served
    content = files.read_json(contract)
    _check(content, served, path.name)
    return replace(served, layout=content["input"].get("layout"))  # contracts of earlier versions have none


def open_file(path: Path, name: str, sha256: str | None) -> ServedModel:
    """Open a file without the registry: its version is the start of its hash. A contract.json beside it is checked.

    Raises:
        HashMismatchError: the file has another SHA-256 than `sha256`.
    """
    found = files.sha256(path)
    if sha256 is not None and found != sha256.lower():
        raise HashMismatchError(str(path), sha256, found)
    return open_checked(path, name, found[:12], contract_beside(path))


def contract_beside(path: Path) -> Path | None:
    contract = path.with_name(CONTRACT)
    return contract if contract.is_file() else None


def same_interface(one: ServedModel, other: ServedModel) -> bool:
    """Whether clients of one model can go on with the other: images of one size, and the same classes in the same order."""
    return one.model.image_shape == other.model.image_shape and one.model.names == other.model.names


def _check(contract: Any, served: ServedModel, file: str) -> None:
    where, model = f"{served.name} version {served.version}", served.model
    try:
        stated = {
            "SHA-256": (contract["files"][file], served.sha256),
            "input": (list(contract["input"]["shape"][1:]), list(model.image_shape)),
            "classes": (contract["classes"], model.names),
        }
        images, expected, tolerance = _vectors(contract["test_vectors"], file)
    except (KeyError, TypeError, ValueError) as error:
        raise BrokenContractError(where, "a contract.json that can be read", f"{type(error).__name__}: {error}") from error
    for what, (expected_value, found) in stated.items():
        if expected_value != found:
            raise BrokenContractError(where, f"the {what} {expected_value}", str(found))
    if images.shape[1:] != model.image_shape or expected.shape != (len(images), model.classes):
        raise BrokenContractError(where, "test vectors of the model's shapes", f"{images.shape} and {expected.shape}")
    if (layout := contract["input"].get("layout")) not in (None, *get_args(Layout)):
        raise BrokenContractError(where, f"the layout {' or '.join(get_args(Layout))}", repr(layout))
    distance = float(np.abs(model.predict(images) - expected).max(initial=0))
    if not distance <= tolerance:  # also where it is NaN
        raise BrokenContractError(where, f"the probabilities of the test vectors within {tolerance:g}", f"{distance:.2g} away")


def _vectors(content: Mapping[str, Any], file: str) -> tuple[Any, Any, float]:
    """The images of the test vectors, and the file's own probabilities and tolerance.

    These are under the file's name, or beside the images as for model.onnx, where each may also be given by file name.
    """

    def own(value: Any) -> Any:
        return value[file] if isinstance(value, Mapping) else value

    expected = content.get(file, content)
    images, probabilities = np.asarray(content[INPUT], np.uint8), np.asarray(own(expected[OUTPUT]), np.float64)
    return images, probabilities, float(own(expected["tolerance"]))
