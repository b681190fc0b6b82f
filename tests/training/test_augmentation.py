import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from pipeline.core.params import AugmentationParams
from pipeline.data.datasets import Pixels, Split
from pipeline.training import augmentation
from pipeline.training.augmentation import RandomDistortion


def augmentation_params(**changes: float) -> AugmentationParams:
    zeros = {"rotation": 0.0, "scale": 0.0, "shear": 0.0, "shift": 0.0, "elastic": 0.0}
    return AugmentationParams.model_validate({**zeros, "elastic_grid": 6, **changes})


@pytest.fixture
def images(subset: dict[str, Split]) -> Pixels:
    return np.array(subset["train"].images[:64])


def distort(images: Pixels, params: AugmentationParams, seed: int = 0, training: bool = True) -> np.ndarray:
    return np.asarray(RandomDistortion(params, seed)(tf.constant(images), training=training))


def distort_by(images: Pixels, uniform: list[float], params: AugmentationParams) -> np.ndarray:
    """Distort `images` by the given numbers instead of random ones."""
    layer = RandomDistortion(params, 0)
    layer.build(images.shape)
    numbers = tf.constant([uniform + [0.0] * (2 * params.elastic_grid**2)] * len(images), tf.float32)
    return np.asarray(layer._sample(tf.constant(images), tf.matmul(augmentation.coefficients(numbers, params), layer.fields)))


def test_zero_parameters_leave_images_unchanged(images: Pixels) -> None:
    np.testing.assert_allclose(distort(images, augmentation_params()), images, atol=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1)])
def test_a_side_of_one_pixel_is_distorted_within_the_image(size: tuple[int, int]) -> None:
    images = np.random.default_rng(0).integers(100, 200, (3, *size), dtype=np.uint8)

    distorted = distort(images, augmentation_params(rotation=10, shift=2, elastic=1))

    assert distorted.shape == images.shape
    for image, result in zip(images, distorted, strict=True):
        assert image.min() - 1e-3 <= result.min() <= result.max() <= image.max() + 1e-3


def test_inference_leaves_images_unchanged(images: Pixels) -> None:
    np.testing.assert_array_equal(distort(images, augmentation_params(rotation=30, elastic=3), training=False), images)


def test_the_seed_determines_the_distortion(images: Pixels) -> None:
    params = augmentation_params(rotation=10, elastic=1)

    first, again, other = (distort(images, params, seed) for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_each_call_draws_a_new_distortion(images: Pixels) -> None:
    layer = RandomDistortion(augmentation_params(rotation=10), 0)

    assert not np.array_equal(layer(tf.constant(images), training=True), layer(tf.constant(images), training=True))


def test_each_image_gets_its_own_distortion(images: Pixels) -> None:
    same = np.repeat(images[:1], 8, axis=0)

    assert len({image.tobytes() for image in distort(same, augmentation_params(rotation=10))}) == 8


def test_a_shift_moves_the_image_by_that_many_pixels(images: Pixels) -> None:
    shifted = distort_by(images, [0, 0, 0, 1, 0, -1], augmentation_params(shift=2))

    np.testing.assert_allclose(shifted[:, :-2, 2:], images[:, 2:, :-2], atol=1e-3)


@pytest.mark.parametrize("uniform", [-1.0, 0.5, 1.0])
def test_a_rotation_equals_that_of_scipy(images: Pixels, uniform: float) -> None:
    angle, centre = uniform * math.radians(20), np.array([13.5, 13.5])
    matrix = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])

    rotated = distort_by(images, [uniform, 0, 0, 0, 0, 0], augmentation_params(rotation=20))

    for image, rotated_image in zip(images, rotated, strict=True):
        offset = centre - matrix @ centre
        expected = ndimage.affine_transform(image.astype(float), matrix, offset, order=1, mode="nearest")
        np.testing.assert_allclose(rotated_image, expected, atol=0.1)


def test_a_scale_above_one_shrinks_the_digit(images: Pixels) -> None:
    shrunk = distort_by(images, [0, 1, 1, 0, 0, 0], augmentation_params(scale=0.3))

    assert np.count_nonzero(shrunk > 127) < 0.8 * np.count_nonzero(images > 127)


@pytest.mark.parametrize(("height", "width", "grid"), [(28, 28, 6), (28, 28, 3), (40, 16, 8)])
def test_elastic_displacement_has_its_standard_deviation_at_every_pixel(height: int, width: int, grid: int) -> None:
    params = augmentation_params(elastic=1.5, elastic_grid=grid)
    uniform = tf.random.stateless_uniform((4000, 6 + 2 * grid**2), (1, 2), -1, 1)

    displacement = np.asarray(tf.matmul(augmentation.coefficients(uniform, params), augmentation.fields(height, width, grid)))

    # The standard error of a standard deviation over 4,000 draws is 1.1 %: allow five of those.
    np.testing.assert_allclose(displacement.std(axis=0), 1.5, rtol=0.06)


def test_pixels_stay_within_their_range(images: Pixels) -> None:
    distorted = distort(images, augmentation_params(rotation=90, scale=0.9, shear=0.9, shift=20, elastic=10))

    assert distorted.min() >= 0
    assert distorted.max() <= 255


def test_images_need_not_be_square(images: Pixels) -> None:
    assert distort(images[:, :, :20], augmentation_params(rotation=10, elastic=1)).shape == (64, 28, 20)
