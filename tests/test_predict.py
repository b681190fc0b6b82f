"""The verb predict, run as a command."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.core import files
from pipeline.core.paths import Paths
from pipeline.data.datasets import Pixels, Split
from pipeline.inference.onnx_model import OnnxModel
from pipeline.serving import model_source
from pipeline.serving.errors import HashMismatchError
from tests.chaos.conftest import LONG
from tests.conftest import Repository, idx


def predict(
    built: Repository, *arguments: str, environment: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pipeline.predict", *arguments]
    environment = {"PATH": "", "PYTHONPATH": str(Path(__file__).parent.parent)} | (environment or {})
    return subprocess.run(command, cwd=built.paths.root, env=environment, capture_output=True, text=True, check=False)


def predictions(built: Repository, *arguments: str) -> Any:
    done = predict(built, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def test_images(subset: dict[str, Split]) -> Pixels:
    return np.array(subset["test"].images[:200])


@pytest.mark.skipif(not LONG, reason="draws many photographs: make chaos")
def test_photographs_of_digits_get_nearly_the_same_labels_as_the_original_images(
    built: Repository, test_images: Pixels, tmp_path: Path
) -> None:
    paths = []
    for number, image in enumerate(test_images):
        page = Image.new("L", (420, 300), 245)
        page.paste(Image.fromarray(245 - (image * 0.9).astype(np.uint8)).resize((168, 168)), (40, 90))
        page.save(tmp_path / f"{number:03}.png")
        paths.append(str(tmp_path / f"{number:03}.png"))

    results = predictions(built, *paths)

    direct = OnnxModel(built.paths.onnx).predict(test_images).argmax(axis=1)
    labels = np.array([int(result["images"][0]["label"]) for result in results])
    assert (labels == direct).mean() > 0.9
    assert results[0]["changes"] == [
        "inverted: dark ink on a light background",
        "resized from 420x300 to 28x28, centred by mass",
    ]


def test_npy_and_idx_files_give_the_probabilities_of_the_model(built: Repository, test_images: Pixels, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", test_images)
    (tmp_path / "some-images-idx3-ubyte").write_bytes(idx(test_images))

    from_npy, from_idx = predictions(built, str(tmp_path / "images.npy"), str(tmp_path / "some-images-idx3-ubyte"))

    expected = OnnxModel(built.paths.onnx).predict(test_images)
    assert from_npy["images"] == from_idx["images"]
    assert [int(image["label"]) for image in from_npy["images"]] == expected.argmax(axis=1).tolist()
    probabilities = [list(image["probabilities"].values()) for image in from_npy["images"]]
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)


def test_the_table_has_one_line_per_image(built: Repository, test_images: Pixels, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", test_images[:3])

    done = predict(built, str(tmp_path / "images.npy"))

    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert len(lines) == 3
    assert lines[1].startswith(f"{tmp_path / 'images.npy'}[1]  ")


def test_a_bad_file_does_not_stop_the_prediction_of_the_others(built: Repository, test_images: Pixels, tmp_path: Path) -> None:
    np.save(tmp_path / "good.npy", test_images[:1])
    np.save(tmp_path / "wide.npy", np.zeros((1, 5, 9), np.uint8))
    np.save(tmp_path / "float.npy", np.zeros((1, 28, 28)))
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object))
    (tmp_path / "cut-idx3-ubyte").write_bytes(idx(test_images)[:100])
    bad = ["wide.npy", "float.npy", "pickle.npy", "cut-idx3-ubyte", "absent.png"]

    done = predict(built, *(str(tmp_path / name) for name in ["good.npy", *bad]))

    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == len(bad)
    assert "expected uint8 (n, 28, 28), found uint8 (1, 5, 9)" in errors[0]
    assert "expected uint8 (n, 28, 28), found float64 (1, 28, 28)" in errors[1]
    assert "Traceback" not in done.stderr


def test_a_registered_model_predicts_the_same_as_the_file(built: Repository, test_images: Pixels, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", test_images[:20])

    by_alias = predictions(built, str(tmp_path / "images.npy"), "--model", "models:/mnist-dense@challenger")

    assert by_alias == predictions(built, str(tmp_path / "images.npy"))


@pytest.mark.parametrize("model", ["data/model/model.onnx", "models:/mnist-dense@challenger", "models:/mnist-dense/1"])
def test_a_model_with_another_hash_is_refused(built: Repository, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    monkeypatch.chdir(built.paths.root)
    sha256, paths = files.sha256(built.paths.onnx), Paths()

    model_source.open_model(model, sha256.upper(), built.params, paths)
    with pytest.raises(HashMismatchError) as refused:
        model_source.open_model(model, sha256[::-1], built.params, paths)

    assert f"{model}: expected the file with SHA-256 {sha256[::-1]}, found {sha256}" in str(refused.value)


def test_a_refused_model_predicts_nothing(built: Repository, test_images: Pixels, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", test_images[:1])

    refused = predict(built, str(tmp_path / "images.npy"), "--sha256", "0" * 64)

    assert (refused.returncode, refused.stdout) == (1, "")
    assert "expected the file with SHA-256 0000" in refused.stderr


def test_the_layout_is_that_of_the_models_contract_unless_one_is_given(
    built: Repository, test_images: Pixels, tmp_path: Path
) -> None:
    Image.fromarray(test_images[0]).resize((140, 140)).save(tmp_path / "image.png")
    (tmp_path / "pulled").mkdir()
    shutil.copy(built.paths.onnx, tmp_path / "pulled")
    contract = files.read_json(built.paths.contract)
    assert (contract["input"]["layout"], built.params.predict.layout) == ("mnist", "mnist")
    contract["input"]["layout"] = "as_is"
    files.write_json(tmp_path / "pulled" / "contract.json", contract)
    arguments = (str(tmp_path / "image.png"), "--model", str(tmp_path / "pulled"))

    stated, given = predictions(built, *arguments), predictions(built, *arguments, "--layout", "mnist")

    assert stated[0]["changes"] == ["resized from 140x140 to 28x28"]
    assert given[0]["changes"][-1] == "resized from 140x140 to 28x28, centred by mass"


def test_a_model_that_breaks_its_contract_predicts_nothing(built: Repository, test_images: Pixels, tmp_path: Path) -> None:
    shutil.copy(built.paths.int8, tmp_path / "model.onnx")
    shutil.copy(built.paths.contract, tmp_path)
    np.save(tmp_path / "images.npy", test_images[:1])

    done = predict(built, str(tmp_path / "images.npy"), "--model", str(tmp_path / "model.onnx"))

    assert (done.returncode, done.stdout) == (1, "")
    assert f"expected the SHA-256 {files.sha256(built.paths.onnx)}" in done.stderr


def test_a_missing_model_is_named_in_the_error(built: Repository, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((1, 28, 28), np.uint8))

    missing = predict(built, str(tmp_path / "images.npy"), "--model", "absent.onnx")
    unknown = predict(built, str(tmp_path / "images.npy"), "--model", "models:/mnist-dense@nobody")

    assert (missing.returncode, unknown.returncode) == (1, 1)
    assert "absent.onnx: expected this file" in missing.stderr
    assert "nobody" in unknown.stderr


def test_the_pictures_in_a_folder_are_predicted_without_stray_files(
    built: Repository, test_images: Pixels, tmp_path: Path
) -> None:
    for name in ("b.png", "a.png"):
        Image.fromarray(test_images[0]).save(tmp_path / name)
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._a.png"):
        (tmp_path / name).write_bytes(b"\0stray")
    (tmp_path / "broken.png").write_bytes(b"none")

    done = predict(built, "--json", str(tmp_path))

    assert done.returncode == 1
    assert [Path(result["file"]).name for result in json.loads(done.stdout)] == ["a.png", "b.png"]
    assert f"{tmp_path}: left out: .DS_Store, ._a.png, Thumbs.db …" in done.stderr
    assert "broken.png: expected an image file, found a damaged file or another format" in done.stderr


def test_a_folder_without_pictures_is_an_error(built: Repository, tmp_path: Path) -> None:
    done = predict(built, str(tmp_path))

    assert done.returncode == 1
    assert "expected a folder with images, found none in it" in done.stderr


def test_a_picture_given_as_the_model_is_not_to_be_deleted(built: Repository, test_images: Pixels, tmp_path: Path) -> None:
    Image.fromarray(test_images[0]).save(tmp_path / "photo.png")

    done = predict(built, str(tmp_path / "photo.png"), "--model", str(tmp_path / "photo.png"))

    assert done.returncode == 1
    assert "photo.png: expected an ONNX model, found " in done.stderr
    assert "Give --model an ONNX file or a folder with model.onnx; `predict` also takes models:/NAME@ALIAS" in done.stderr
    assert "Delete" not in done.stderr
    assert "dvc repro" not in done.stderr


def test_the_folder_of_a_downloaded_model_is_a_model(built: Repository, test_images: Pixels, tmp_path: Path) -> None:
    (tmp_path / "pulled").mkdir()
    (tmp_path / "empty").mkdir()
    shutil.copy(built.paths.onnx, tmp_path / "pulled")
    np.save(tmp_path / "images.npy", test_images[:3])

    pulled = predictions(built, str(tmp_path / "images.npy"), "--model", str(tmp_path / "pulled"))
    empty = predict(built, str(tmp_path / "images.npy"), "--model", str(tmp_path / "empty"))

    assert pulled == predictions(built, str(tmp_path / "images.npy"))
    assert f"{tmp_path / 'empty'}: expected a folder with model.onnx, found none" in empty.stderr


def test_transposed_images_are_swapped_back(built: Repository, test_images: Pixels, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", test_images)
    np.save(tmp_path / "emnist.npy", test_images.swapaxes(1, 2))

    (swapped,) = predictions(built, "--transpose", str(tmp_path / "emnist.npy"))

    (straight,) = predictions(built, str(tmp_path / "images.npy"))
    assert swapped["images"] == straight["images"]
    assert swapped["changes"] == ["transposed"]


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_file_name_that_is_no_text_is_shown_and_the_work_goes_on(
    encoding: str, built: Repository, test_images: Pixels, tmp_path: Path
) -> None:
    names = [b"b\xff.png", "größe.png".encode(), b"c.png"]
    for name in names:
        Image.fromarray(test_images[0]).save(tmp_path / "a.png")
        (tmp_path / "a.png").rename(os.fsdecode(bytes(tmp_path) + b"/" + name))
    bad = os.fsdecode(bytes(tmp_path) + b"/absent\xfe.png")
    environment = {"PYTHONIOENCODING": encoding}

    lines, as_json = (predict(built, *options, bad, str(tmp_path), environment=environment) for options in ([], ["--json"]))

    assert (lines.returncode, as_json.returncode) == (1, 1)
    assert len([line for line in lines.stdout.splitlines() if line.startswith(str(tmp_path))]) == len(names)
    assert "expected a file, found No such file or directory" in lines.stderr
    assert [os.fsencode(Path(result["file"]).name) for result in json.loads(as_json.stdout)] == sorted(names)
