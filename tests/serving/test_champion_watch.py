"""A new version takes over once it has proved itself; whatever else happens, the old one is served on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipeline.core import files
from pipeline.serving.champion_watch import Watch
from pipeline.serving.errors import BrokenContractError
from pipeline.serving.served_model import ServedModel, open_checked, open_file
from pipeline.tracking.errors import AlteredModelError
from tests.conftest import Repository
from tests.serving.asgi import NAME, Client, opened
from tests.serving.test_app import counted


class Version(NamedTuple):
    """A version of a registry without MLflow."""

    number: int
    name: str = NAME


class Registry:
    """What a watch sees: a version or an error, and whether its files pass."""

    def __init__(self, built: Repository) -> None:
        self._path = built.paths.onnx
        self.now: Version | Exception | None = Version(1)
        self.fault: Exception | None = None
        self.fetched = 0

    def find(self) -> Any:
        if isinstance(self.now, Exception):
            raise self.now
        return self.now

    def fetch(self, version: Any) -> ServedModel:
        self.fetched += 1
        if self.fault:
            raise self.fault
        return open_checked(self._path, NAME, str(version.number), None)


@pytest.fixture
def registry(built: Repository) -> Registry:
    return Registry(built)


@pytest.fixture
def watched(built: Repository, registry: Registry) -> tuple[Client, Watch]:
    client = Client(open_checked(built.paths.onnx, NAME, "1", None))
    return client, Watch(client.service, registry.find, registry.fetch)  # type: ignore[arg-type]


def version(client: Client) -> str:
    return client.ask("GET", "/ping").headers["x-model-version"]


def test_a_new_version_takes_over(
    watched: tuple[Client, Watch], registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    client, watch = watched
    watch.look()
    assert (version(client), registry.fetched) == ("1", 0)

    registry.now = Version(2)
    watch.look()

    assert version(client) == "2"
    assert capsys.readouterr().out == f"serve     {NAME} version 2 takes over from version 1\n"
    assert counted(client, "serve_reloads_total", result="taken over") == 1
    assert counted(client, "serve_model_info", version="1") == 0
    assert counted(client, "serve_model_info", version="2") == 1


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (None, "no version has the alias any more; version 1 is served on"),
        (OSError("Connection refused"), "the registry cannot be read (Connection refused); version 1 is served on"),
    ],
)
def test_a_registry_that_is_away_changes_nothing_and_is_said_once(
    watched: tuple[Client, Watch],
    registry: Registry,
    capsys: pytest.CaptureFixture[str],
    now: Exception | None,
    message: str,
) -> None:
    client, watch = watched
    registry.now = now
    for _ in range(3):
        watch.look()
    assert version(client) == "1"
    assert capsys.readouterr().out == f"serve     {message}\n"

    registry.now = Version(2)
    watch.look()
    assert version(client) == "2"


def test_a_version_that_does_not_pass_is_refused_and_tried_again_later(
    watched: tuple[Client, Watch],
    registry: Registry,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, watch = watched
    registry.now, registry.fault = Version(2), AlteredModelError("v2", "model.onnx", "a", "b")
    for _ in range(3):
        watch.look()
    assert (version(client), registry.fetched) == ("1", 1)
    assert "version 2 is refused: v2, model.onnx: expected the file with SHA-256" in capsys.readouterr().out
    assert counted(client, "serve_reloads_total", result="refused") == 1

    monkeypatch.setattr("pipeline.serving.champion_watch._AGAIN", 0)
    registry.fault = None
    watch.look()
    assert version(client) == "2"


def test_a_version_for_other_classes_is_refused(
    watched: tuple[Client, Watch], registry: Registry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client, watch = watched
    registry.now, fetch = Version(2), registry.fetch

    def other(version: Any) -> ServedModel:
        served = fetch(version)
        monkeypatch.setattr(served.model, "names", list("abcdefghij"))
        return served

    watch._fetch = other
    watch.look()

    assert version(client) == "1"
    assert "expected the image size and the classes that are served (restart the server for others)" in capsys.readouterr().out


def test_a_download_that_fails_is_no_refusal(watched: tuple[Client, Watch], registry: Registry) -> None:
    client, watch = watched
    registry.now, registry.fault = Version(2), OSError("reset")
    watch.look()
    assert counted(client, "serve_reloads_total", result="failed") == 1

    registry.fault = None
    watch.look()
    assert version(client) == "2"


def changed(contract: Any, *keys: Any, value: Any) -> None:
    for key in keys[:-1]:
        contract = contract[key]
    contract[keys[-1]] = value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: changed(c, "files", "model.onnx", value="0" * 64), "expected the SHA-256 0000"),
        (lambda c: changed(c, "input", "shape", value=["batch", 8, 8]), r"expected the input \[8, 8\], found \[28, 28\]"),
        (lambda c: c["classes"].reverse(), "expected the classes"),
        (
            lambda c: changed(c, "input", "layout", value="upside_down"),
            "expected the layout mnist or as_is, found 'upside_down'",
        ),
        (lambda c: changed(c, "test_vectors", "image", 0, 5, value=[255] * 28), "expected the probabilities of the test vec"),
        (lambda c: changed(c, "test_vectors", "probabilities", 0, 0, value=float("nan")), "expected the probabilities"),
        (lambda c: c["test_vectors"]["probabilities"].pop(), "expected test vectors of the model's shapes"),
        (lambda c: c.pop("test_vectors"), r"expected a contract.json that can be read, found KeyError: 'test_vectors'"),
        (lambda c: changed(c, "files", value=[]), "expected a contract.json that can be read, found TypeError"),
    ],
)
def test_a_model_that_breaks_its_contract_is_not_opened(
    built: Repository, tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    shutil.copy(built.paths.onnx, tmp_path / "model.onnx")
    contract = files.read_json(built.paths.contract)
    (tmp_path / "contract.json").write_text(json.dumps(contract))
    assert open_file(tmp_path / "model.onnx", NAME, None).version == files.sha256(built.paths.onnx)[:12]
    change(contract)
    (tmp_path / "contract.json").write_text(json.dumps(contract))

    with pytest.raises(BrokenContractError, match=message):
        open_file(tmp_path / "model.onnx", NAME, None)


def test_every_file_of_a_version_may_have_vectors_of_its_own(built: Repository, tmp_path: Path) -> None:
    shutil.copy(built.paths.onnx, tmp_path / "model.onnx")
    contract = files.read_json(built.paths.contract)
    vectors = contract["test_vectors"]
    for key in ("probabilities", "tolerance"):
        vectors[key] = {"model.onnx": vectors[key], "model.int8.onnx": None}
    (tmp_path / "contract.json").write_text(json.dumps(contract))

    assert open_file(tmp_path / "model.onnx", NAME, None).model.image_shape == opened(built.paths.onnx).model.image_shape
