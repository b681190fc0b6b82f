"""Shift, rotation and noise, on single pixels and on real digits."""

import numpy as np
import pytest

from pipeline.data.datasets import Pixels, Split
from pipeline.evaluation import perturbations


@pytest.fixture(scope="module")
def digits(subset: dict[str, Split]) -> Pixels:
    return np.asarray(subset["test"].images[:200])


def centres(images: Pixels) -> Pixels:
    """The centre of mass of each image, `(n, 2)`: row and column."""
    weights = images / images.sum(axis=(1, 2), keepdims=True)
    rows, columns = np.indices(images.shape[1:])
    return np.stack([(weights * rows).sum(axis=(1, 2)), (weights * columns).sum(axis=(1, 2))], axis=1)


@pytest.mark.parametrize(("down", "right", "position"), [(2, 0, (4, 3)), (-1, 0, (1, 3)), (0, 1, (2, 4)), (0, -3, (2, 0))])
def test_shift_moves_a_pixel_down_and_right_and_fills_with_0(down: int, right: int, position: tuple[int, int]) -> None:
    images = np.zeros((1, 6, 5), np.uint8)
    images[0, 2, 3] = 200

    shifted = perturbations.shift(images, down, right)

    assert shifted[0][position] == 200
    assert shifted.sum() == 200


def test_shift_fills_with_0_and_drops_pixels_outside_the_image() -> None:
    shifted = perturbations.shift(np.full((1, 4, 3), 9, np.uint8), 1, -1)

    assert shifted[0].tolist() == [[0, 0, 0], [9, 9, 0], [9, 9, 0], [9, 9, 0]]


def test_shift_moves_every_image_exactly(digits: Pixels) -> None:
    shifted = perturbations.shift(digits, 2, 0)

    np.testing.assert_array_equal(shifted[:, 2:], digits[:, :-2])


def test_the_directions_are_up_down_left_and_right() -> None:
    assert sorted(perturbations.DIRECTIONS) == [(-1, 0), (0, -1), (0, 1), (1, 0)]


def test_rotation_by_90_degrees_is_a_counterclockwise_quarter_turn(digits: Pixels) -> None:
    rotated = perturbations.rotate(digits, 90)

    np.testing.assert_array_equal(rotated, np.rot90(digits, axes=(1, 2)))


def test_rotation_by_a_few_degrees_moves_pixels_at_the_right_up() -> None:
    images = np.zeros((1, 21, 21), np.uint8)
    images[0, 9:12, 15:18] = 255  # 6 pixels to the right of the centre

    row, column = centres(perturbations.rotate(images, 10))[0] - centres(images)[0]

    assert row == pytest.approx(-6 * np.sin(np.radians(10)), abs=0.05)
    assert column == pytest.approx(6 * (np.cos(np.radians(10)) - 1), abs=0.05)


@pytest.mark.parametrize("degrees", [-10, 10])
def test_rotation_keeps_size_ink_and_centre_of_digits(digits: Pixels, degrees: float) -> None:
    rotated = perturbations.rotate(digits, degrees)

    assert (rotated.shape, rotated.dtype) == (digits.shape, np.uint8)
    assert rotated.mean() == pytest.approx(digits.mean(), rel=0.02)
    np.testing.assert_allclose(centres(rotated), centres(digits), atol=0.6)


def test_noise_has_the_given_standard_deviation_and_mean_0() -> None:
    grey = np.full((50, 28, 28), 128, np.uint8)

    change = perturbations.add_noise(grey, 25).astype(float) - 128

    assert change.std() == pytest.approx(25, rel=0.02)
    assert change.mean() == pytest.approx(0, abs=0.5)


def test_noise_is_the_same_for_the_same_images(digits: Pixels) -> None:
    np.testing.assert_array_equal(perturbations.add_noise(digits, 25), perturbations.add_noise(digits, 25))


def test_noise_stays_within_the_range_of_pixels() -> None:
    images = np.stack([np.zeros((28, 28), np.uint8), np.full((28, 28), 255, np.uint8)])

    black, white = perturbations.add_noise(images, 60)

    # A value that overflowed would be at the other end of the range.
    assert black.dtype == np.uint8
    assert black.max() < 255
    assert (black == 0).mean() == pytest.approx(0.5, abs=0.06)
    assert white.min() > 0
    assert (white == 255).mean() == pytest.approx(0.5, abs=0.06)
