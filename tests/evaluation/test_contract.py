import json

import numpy as np

from pipeline.evaluation import contract

IMAGES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


THIRDS = np.full((3, 3), 1 / 3, np.float32)
FILES = {
    "model.onnx": contract.ModelFile("a" * 64, THIRDS, 1e-6),
    "model.int8.onnx": contract.ModelFile("b" * 64, THIRDS - np.float32(0.01), 3e-4),
}


def test_the_contract_and_its_test_vectors_can_be_written_as_json() -> None:
    content = json.loads(json.dumps(contract.build(FILES, 13, 7, ["cat", "dog", "eel"], IMAGES, "as_is")))

    vectors, int8 = content["test_vectors"], content["test_vectors"]["model.int8.onnx"]
    assert content["files"] == {"model.onnx": "a" * 64, "model.int8.onnx": "b" * 64}
    assert (vectors["tolerance"], int8["tolerance"]) == (1e-6, 3e-4)
    np.testing.assert_allclose(int8["probabilities"], THIRDS - 0.01, atol=1e-8)
    np.testing.assert_array_equal(np.array(content["test_vectors"]["image"], np.uint8), IMAGES)
    np.testing.assert_allclose(content["test_vectors"]["probabilities"], 1 / 3, atol=1e-6)
    assert (content["input"]["shape"], content["input"]["layout"]) == (["batch", 4, 5], "as_is")
    assert content["format"] == {"onnx_opset": 13, "onnx_ir_version": 7, "oldest_onnxruntime": "1.10"}


def test_the_test_vectors_show_different_classes() -> None:
    images = contract.first_images(IMAGES, np.array([1, 1, 0], np.uint8))

    np.testing.assert_array_equal(images, IMAGES[[0, 2]])
