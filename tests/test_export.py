import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest

from pipeline import export
from pipeline.core import files
from pipeline.core.params import ExportParams, ModelParams
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.data.datasets import Split
from pipeline.export import ExportError
from pipeline.inference import convert
from pipeline.inference.onnx_model import OnnxModel
from pipeline.training import network
from tests.conftest import Repository, small_repository

PARAMS = ExportParams(opset=18, tolerance=1e-5, int8_agreement=0.9)


@pytest.fixture(scope="module")
def model() -> Any:
    return network.build(ModelParams(hidden_units=(16, 8), activation="tanh"), (12, 9), classes=4, seed=0)


@pytest.mark.parametrize("opset", [13, 15, 18])
def test_the_file_keeps_the_contract_at_each_opset(model: Any, opset: int) -> None:
    proto = convert.to_onnx(model, opset, {"dataset": "letters"})

    (image,), (probabilities,) = proto.graph.input, proto.graph.output
    assert (image.name, image.type.tensor_type.elem_type) == ("image", onnx.TensorProto.UINT8)
    assert (probabilities.name, probabilities.type.tensor_type.elem_type) == ("probabilities", onnx.TensorProto.FLOAT)
    assert [size.dim_param or size.dim_value for size in image.type.tensor_type.shape.dim] == ["batch", 12, 9]
    assert [size.dim_param or size.dim_value for size in probabilities.type.tensor_type.shape.dim] == ["batch", 4]
    assert {entry.domain: entry.version for entry in proto.opset_import}[""] == opset
    assert {entry.key: entry.value for entry in proto.metadata_props} == {"dataset": "letters"}


@pytest.mark.parametrize("activation", get_args(ModelParams.model_fields["activation"].annotation))
def test_every_activation_that_the_parameters_allow_exports_and_predicts_the_same(activation: Any, tmp_path: Path) -> None:
    model = network.build(ModelParams(hidden_units=(16,), activation=activation), (12, 9), classes=4, seed=0)
    images = np.random.default_rng(0).integers(0, 256, (50, 12, 9), dtype=np.uint8)

    onnx.save(convert.to_onnx(model, 18, {}), tmp_path / "model.onnx")

    found = OnnxModel(tmp_path / "model.onnx").predict(images)
    np.testing.assert_allclose(found, model.predict(images, verbose=0), atol=1e-5)


def test_equal_networks_are_equal_bytes(model: Any) -> None:
    first, again = (convert.to_onnx(model, 18, {}).SerializeToString(deterministic=True) for _ in range(2))

    assert first == again


def test_comparison_counts_what_differs() -> None:
    keras = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]], np.float32)
    float32 = keras + np.array([[0, 0], [0, 0], [-0.25, 0.25], [0, 0]], np.float32)
    int8 = keras[::-1]

    assert export.compare(keras, float32, int8) == {
        "images": 4,
        "max_difference": pytest.approx(0.25),
        "different_decisions": 1,
        "int8_agreement": 0.25,
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_difference": 2e-5}, r"model\.onnx: expected probabilities within 1e-05 .* of Keras, found 2e-05"),
        ({"max_difference": float("nan")}, r"model\.onnx: expected probabilities within 1e-05 .* of Keras, found nan"),
        ({"different_decisions": 1}, r"model\.onnx: expected the decisions of Keras, found 1 others"),
        ({"int8_agreement": 0.89}, r"model\.int8\.onnx: expected at least 0\.9 .*, found 0\.8900"),
    ],
)
def test_every_difference_beyond_its_bound_is_an_error(change: dict[str, float], message: str) -> None:
    parity = {"images": 10, "max_difference": 1e-6, "different_decisions": 0, "int8_agreement": 0.99}
    export.check(parity, PARAMS)

    with pytest.raises(ExportError, match=message):
        export.check(parity | change, PARAMS)


def test_a_failed_parity_leaves_no_model_file_behind(built: Repository, tmp_path: Any) -> None:
    from pipeline.inference import onnx_model

    model = network.load(built.paths.keras)
    other = convert.to_onnx(network.build(built.params.model, (28, 28), 10, seed=9), 18, {})
    paths = Paths(tmp_path)
    images = np.asarray(datasets.open_split(built.paths, "train").images[:200])

    with pytest.raises(ExportError, match="expected probabilities within"):
        export.write(other, model, images, built.params.export, paths)

    assert list(paths.model.iterdir()) == []
    assert onnx_model.OUTPUT == "probabilities"


def test_the_exported_files_decide_as_keras_does_on_the_validation_split(built: Repository) -> None:
    images = datasets.open_split(built.paths, "train").images
    _, held_out = datasets.hold_out([len(images)], built.params.train.validation_split)
    expected = network.load(built.paths.keras).predict(images[held_out], verbose=0)

    found = OnnxModel(built.paths.onnx).predict(images[held_out])

    np.testing.assert_allclose(found, expected, atol=1e-5)
    parity = files.read_json(built.paths.parity)
    assert parity["images"] == len(held_out)
    assert parity["different_decisions"] == 0


def test_parity_is_proved_on_the_same_images_when_further_sets_are_trained_on(
    built: Repository, subset: dict[str, Split], tmp_path: Path
) -> None:
    np.savez(tmp_path / "more.npz", images=subset["train"].images[:40], labels=subset["train"].labels[:40])
    more = small_repository(tmp_path, subset, {"fetch.extra": [{"name": "more", "source": str(tmp_path / "more.npz")}]})

    sample = export.parity_sample(more.paths, more.params)

    np.testing.assert_array_equal(sample, export.parity_sample(built.paths, built.params))


def test_both_files_say_what_they_are(built: Repository) -> None:
    manifest = files.read_json(built.paths.manifest)
    history = built.paths.history.read_text().splitlines()

    for path in (built.paths.onnx, built.paths.int8):
        said = OnnxModel(path).metadata
        assert said["data_fingerprint"] == manifest["fingerprint"]
        assert json.loads(said["classes"]) == list("0123456789")
        assert "CC BY-SA 3.0" in said["licence"]
        assert said["accuracy_split"] == "validation"
        assert said["accuracy"] == history[-1].split(",")[history[0].split(",").index("val_accuracy")]
        assert len(said["params_fingerprint"]) == 64


def test_exporting_again_gives_the_same_bytes(built: Repository, tmp_path: Any) -> None:
    before = [path.read_bytes() for path in (built.paths.onnx, built.paths.int8, built.paths.parity)]

    export.run(built.params, built.paths)

    assert [path.read_bytes() for path in (built.paths.onnx, built.paths.int8, built.paths.parity)] == before


def test_the_parity_sample_is_never_empty_and_never_the_test_split(built: Repository) -> None:
    train_params = built.params.train.model_copy(update={"validation_split": 0.0})
    none_held_out = built.params.model_copy(update={"train": train_params})

    sample = export.parity_sample(built.paths, none_held_out)

    np.testing.assert_array_equal(sample, datasets.open_split(built.paths, "train").images)
