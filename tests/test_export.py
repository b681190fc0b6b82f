import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from pipeline import export
from pipeline.core import files
from pipeline.core.paths import Paths
from pipeline.data import datasets, history
from pipeline.data.datasets import Split
from pipeline.inference import convert
from pipeline.inference.onnx_model import OnnxModel
from pipeline.inference.parity import ParityError
from pipeline.training import network
from tests.conftest import Repository, small_repository


def test_a_failed_parity_check_leaves_no_model_file(built: Repository, tmp_path: Any) -> None:
    other = convert.to_onnx(network.build(built.params.model, (28, 28), 10, seed=9), 18, {})
    paths = Paths(tmp_path)
    images = np.asarray(datasets.open_split(built.paths, "train").images[:200])
    keras = network.load(built.paths.keras).predict(images, verbose=0)

    with pytest.raises(ParityError, match="expected probabilities within"):
        export.write(other, images, keras, built.params.export, paths)

    assert list(paths.model.iterdir()) == []


def test_the_exported_file_and_keras_predict_the_same_on_the_validation_split(built: Repository) -> None:
    images = datasets.open_split(built.paths, "train").images
    _, held_out = datasets.hold_out([len(images)], built.params.train.validation_split)
    expected = network.load(built.paths.keras).predict(images[held_out], verbose=0)

    probabilities = OnnxModel(built.paths.onnx).predict(images[held_out])

    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    parity = files.read_json(built.paths.parity)
    assert parity["images"] == len(held_out)
    assert parity["different_decisions"] == 0


def test_extra_data_sets_do_not_change_the_images_of_the_parity_check(
    built: Repository, subset: dict[str, Split], tmp_path: Path
) -> None:
    np.savez(tmp_path / "more.npz", images=subset["train"].images[:40], labels=subset["train"].labels[:40])
    repository = small_repository(tmp_path, subset, {"fetch.extra": [{"name": "more", "source": str(tmp_path / "more.npz")}]})

    images = export.parity_images(repository.params, repository.paths)

    np.testing.assert_array_equal(images, export.parity_images(built.params, built.paths))


@pytest.fixture
def exported(built: Repository, tmp_path: Path) -> Paths:
    """A tree with the inputs of export."""
    shutil.copytree(built.paths.data, tmp_path / "data")
    return Paths(tmp_path)


@pytest.mark.parametrize("mode", ["optional", "off"])
def test_int8_is_left_out_and_the_float32_model_goes_its_way(
    mode: str, built: Repository, exported: Paths, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "quantize", lambda proto, _: other_network(proto))
    params = built.params.model_copy(update={"export": built.params.export.model_copy(update={"int8": mode})})

    result = export.run(params, exported)

    printed, state = capsys.readouterr().out, files.read_json(exported.parity)["int8"]
    assert exported.onnx.read_bytes() == built.paths.onnx.read_bytes()
    assert exported.int8.read_bytes() == b""
    assert "int8" not in result
    if mode == "off":
        assert (state, printed) == ("left out: export.int8 is off", "")
    else:
        assert state.startswith(
            "left out: expected agreement with model.onnx of at least 0.995 (export.int8_agreement), found 0."
        )
        assert f"warning: {exported.int8} was {state}" in printed


def test_a_required_int8_that_disagrees_fails_the_export(
    built: Repository, exported: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "quantize", lambda proto, _: other_network(proto))
    required = built.params.export.model_copy(update={"int8": "required"})

    with pytest.raises(ParityError, match=r"because export\.int8 is required"):
        export.run(built.params.model_copy(update={"export": required}), exported)

    assert not exported.onnx.exists()
    assert not exported.int8.exists()


def other_network(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The network with its first kernel turned upside down."""
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    kernel = max(changed.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    kernel.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(kernel)[::-1], kernel.name))
    return changed


def test_both_files_have_metadata(built: Repository) -> None:
    manifest = files.read_json(built.paths.manifest)
    last_epoch = history.read(built.paths.history)[-1]

    for path in (built.paths.onnx, built.paths.int8):
        metadata = OnnxModel(path).metadata
        assert metadata["data_fingerprint"] == manifest["fingerprint"]
        assert json.loads(metadata["classes"]) == list("0123456789")
        assert "CC BY-SA 3.0" in metadata["licence"]
        assert metadata["accuracy_split"] == "validation"
        assert float(metadata["accuracy"]) == last_epoch["val_accuracy"]
        assert len(metadata["params_fingerprint"]) == 64


def test_exporting_again_gives_the_same_bytes(built: Repository, tmp_path: Any) -> None:
    before = [path.read_bytes() for path in (built.paths.onnx, built.paths.int8, built.paths.parity)]

    export.run(built.params, built.paths)

    assert [path.read_bytes() for path in (built.paths.onnx, built.paths.int8, built.paths.parity)] == before


def test_parity_is_checked_on_training_images_without_a_validation_split(built: Repository) -> None:
    train_params = built.params.train.model_copy(update={"validation_split": 0.0})
    none_held_out = built.params.model_copy(update={"train": train_params})

    images = export.parity_images(none_held_out, built.paths)

    np.testing.assert_array_equal(images, datasets.open_split(built.paths, "train").images)
