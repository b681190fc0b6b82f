import json

import numpy as np

from pipeline.evaluation import contract

IMAGES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def test_the_contract_and_its_test_vectors_can_be_written_as_json() -> None:
    expected = np.full((3, 3), 1 / 3, np.float32)

    content = json.loads(json.dumps(contract.build({"model.onnx": "a" * 64}, 18, 8, ["cat", "dog", "eel"], IMAGES, expected)))

    np.testing.assert_array_equal(np.array(content["test_vectors"]["image"], np.uint8), IMAGES)
    np.testing.assert_allclose(content["test_vectors"]["probabilities"], 1 / 3, atol=1e-6)
    assert content["input"]["shape"] == ["batch", 4, 5]
    assert content["format"] == {"onnx_opset": 18, "onnx_ir_version": 8}


def test_the_test_vectors_show_different_classes() -> None:
    images = contract.first_images(IMAGES, np.array([1, 1, 0], np.uint8))

    np.testing.assert_array_equal(images, IMAGES[[0, 2]])
