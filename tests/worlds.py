"""What may become of the images that are served: the same digits, but turned and drawn with a thicker pen."""

import numpy as np
from scipy import ndimage

from pipeline.data.datasets import Pixels


def changed(images: Pixels, degrees: float = 30, thicker: float = 1) -> Pixels:
    """Turn images `(n, height, width)` by `degrees` and thicken their strokes, `thicker` of 0 to 1."""
    turned = ndimage.rotate(images.astype(np.float32), degrees, axes=(1, 2), reshape=False, order=1)
    thick = ndimage.grey_dilation(turned, size=(1, 2, 2))
    mixed = (1 - thicker) * turned + thicker * thick
    return np.asarray(np.clip(mixed, 0, 255).round(), np.uint8)
