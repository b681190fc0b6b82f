"""What is read off somebody's data."""

import numpy as np

from pipeline.adoption.dataset import _layout
from pipeline.data.datasets import Split


def test_the_layout_of_mnist_is_recognised_and_others_are_left_as_they_are(subset: dict[str, Split]) -> None:
    digits = subset["train"].images
    photos = np.random.default_rng(0).integers(0, 255, (100, 32, 24)).astype(np.uint8)

    assert [_layout(images).value for images in (digits, photos)] == ["mnist", "as_is"]
