"""Recognising transposed images."""

import numpy as np

from pipeline.data.datasets import Split
from pipeline.validate import _hints
from pipeline.validation.orientation import looks_transposed


def test_a_set_looks_transposed_if_swapping_rows_and_columns_makes_the_difference_vanish(mnist: dict[str, Split]) -> None:
    base, other = (
        Split(mnist["train"].images[part], mnist["train"].labels[part]) for part in (slice(3000), slice(3000, 4000))
    )
    transposed = Split(other.images.swapaxes(1, 2), other.labels)
    mislabelled = Split(other.images, np.random.default_rng(0).permutation(other.labels))

    found = [looks_transposed(base, each, 10) for each in (transposed, other, mislabelled)]

    assert found == [True, False, False]
    assert _hints({"train": base, "test": other, "extra emnist": transposed}, 10) == [
        "extra emnist: looks transposed: with rows and columns swapped, the images agree with their labels"
        " (EMNIST stores them so)"
    ]
