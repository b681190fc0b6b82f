"""Training-time augmentation: random shift, rotation, shear, scale and elastic displacement, new in each epoch.

Affine and elastic augmentation after Simard, Steinkraus and Platt, "Best Practices for Convolutional Neural Networks Applied
to Visual Document Analysis", ICDAR 2003. They smooth a random displacement per pixel. Here cubic B-splines interpolate a
coarse grid of random displacements: equally smooth, with 72 random numbers per image instead of 1,568.
"""

import math

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from pipeline.core.params import AugmentationParams
from pipeline.data.idx import Pixels


class RandomDistortion(keras.layers.Layer):  # type: ignore[misc]
    """Images `(n, height, width)` uint8 -> distorted images, float32, 0 to 255. In inference only the type changes.

    The displacement of each image is one matrix product: its random coefficients times the constant `fields`. Pixels are
    interpolated bilinearly; beyond the border the nearest pixel is repeated.
    """

    def __init__(self, params: AugmentationParams, seed: int) -> None:
        super().__init__(name="distort")
        self.params = params
        self.seeds = keras.random.SeedGenerator(seed)

    def build(self, input_shape: tuple[int | None, int, int]) -> None:
        _, self.height, self.width = input_shape
        self.fields = fields(self.height, self.width, self.params.elastic_grid)

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training or self.params.none:
            return tf.cast(images, tf.float32)
        count = tf.shape(images)[0]
        drawn = 6 + 2 * self.params.elastic_grid**2
        # Philox: the default generator of XLA takes longer than the network.
        uniform = tf.random.stateless_uniform((count, drawn), self.seeds.next(), -1, 1, alg="philox")
        return self._sample(images, tf.matmul(coefficients(uniform, self.params), self.fields))

    def _sample(self, images: tf.Tensor, displacement: tf.Tensor) -> tf.Tensor:
        """Interpolate `images` at each pixel's position plus `displacement`, `(n, 2, pixels)` in pixels, y then x."""
        height, width = self.height, self.width
        size = height * width
        rows = tf.clip_by_value(displacement[:, 0] + self.fields[0] + (height - 1) / 2, 0, height - 1)
        columns = tf.clip_by_value(displacement[:, 1] + self.fields[1] + (width - 1) / 2, 0, width - 1)
        top, left = tf.minimum(tf.floor(rows), max(height - 2, 0)), tf.minimum(tf.floor(columns), max(width - 2, 0))
        down, right = rows - top, columns - left
        first = tf.cast(top * width + left, tf.int32) + tf.range(tf.shape(images)[0])[:, None] * size
        pixels = tf.reshape(images, (-1,))

        def corner(offset: int) -> tf.Tensor:
            return tf.cast(tf.gather(pixels, first + offset), tf.float32)

        across, along = min(1, width - 1), width * min(1, height - 1)  # a side of one pixel has no next pixel
        above = corner(0) * (1 - right) + corner(across) * right
        below = corner(along) * (1 - right) + corner(along + across) * right
        return tf.reshape(above * (1 - down) + below * down, (-1, height, width))


def fields(height: int, width: int, grid: int) -> npt.NDArray[np.float32]:
    """The displacement fields that the coefficients weight: y, x, 1, and one bump for each control point.

    Returns:
        `(3 + grid * grid, height * width)` float32. y and x are in pixels from the centre. If the coefficients of the bumps
        are independent with standard deviation 1, their sum has standard deviation 1 at every pixel.
    """
    y, x = np.meshgrid(np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij")
    bumps = np.einsum("ya,xb->abyx", _splines(height, grid), _splines(width, grid)).reshape(grid * grid, height * width)
    return np.concatenate([y.reshape(1, -1), x.reshape(1, -1), np.ones((1, height * width)), bumps]).astype(np.float32)


def _splines(size: int, grid: int) -> npt.NDArray[np.float64]:
    """Cubic B-splines around `grid` points spread over `size` pixels: `(size, grid)`, each row of unit norm."""
    distance = np.abs(np.linspace(0, grid - 1, size)[:, None] - np.arange(grid))
    near, far = (4 - 6 * distance**2 + 3 * distance**3) / 6, (2 - distance) ** 3 / 6
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0))
    normed: npt.NDArray[np.float64] = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    return normed


def coefficients(uniform: tf.Tensor, params: AugmentationParams) -> tf.Tensor:
    """Map numbers uniform in -1 to 1, `(n, 6 + 2 * grid**2)`, to weights of `fields`: `(n, 2, 3 + grid**2)`, y then x."""
    angle = uniform[:, 0] * math.radians(params.rotation)
    tall, wide = 1 + uniform[:, 1] * params.scale, 1 + uniform[:, 2] * params.scale
    cosine, sine = tf.cos(angle), tf.sin(angle)
    affine = tf.stack(
        [
            cosine * tall - 1,
            -sine * wide,
            uniform[:, 3] * params.shift,
            sine * tall + uniform[:, 4] * params.shear,
            cosine * wide - 1,
            uniform[:, 5] * params.shift,
        ],
        axis=1,
    )
    # A uniform number in -1 to 1 has standard deviation 1 / sqrt(3).
    elastic = uniform[:, 6:] * (params.elastic * math.sqrt(3))
    count, grid = tf.shape(uniform)[0], params.elastic_grid**2
    return tf.concat([tf.reshape(affine, (count, 2, 3)), tf.reshape(elastic, (count, 2, grid))], axis=2)


def examples(images: Pixels, copies: int, params: AugmentationParams, seed: int) -> Pixels:
    """Each image of `(n, height, width)` uint8, then `copies` distorted versions: `(n, 1 + copies, height, width)` uint8."""
    repeated = np.repeat(np.asarray(images), copies, axis=0)
    distorted = np.asarray(RandomDistortion(params, seed)(repeated, training=True)).round().astype(np.uint8)
    return np.concatenate([images[:, None], distorted.reshape(len(images), copies, *images.shape[1:])], axis=1)
