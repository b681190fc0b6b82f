"""The float32 matrix products of the network 784-256-10 with the BLAS of NumPy, into preallocated arrays.

`python -m bench.workers.products training 128` computes those of an epoch of 60,000 images: the forward pass, and the
gradients with respect to the weights and hidden values. `... inference 10000 240000` computes the forward pass of 240,000
images, 10,000 at a time.
`... square 2048` multiplies two square matrices.
"""

import sys
from collections.abc import Callable

import numpy as np

from bench.workers.rounds import serve

IMAGES, PIXELS, UNITS, CLASSES = 60_000, 784, 256, 10


def training(batch: int, images: int = IMAGES) -> Callable[[], None]:
    x, w1, w2 = _random(batch, PIXELS), _random(PIXELS, UNITS), _random(UNITS, CLASSES)
    hidden, logits = _random(batch, UNITS), _random(batch, CLASSES)
    grad1, grad2, back = np.empty_like(w1), np.empty_like(w2), np.empty_like(hidden)

    def epoch() -> None:
        for _ in range(images // batch):
            np.matmul(x, w1, out=hidden)
            np.matmul(hidden, w2, out=logits)
            np.matmul(hidden.T, logits, out=grad2)
            np.matmul(logits, w2.T, out=back)
            np.matmul(x.T, back, out=grad1)

    return epoch


def inference(batch: int, images: int = IMAGES) -> Callable[[], None]:
    x, w1, w2 = _random(batch, PIXELS), _random(PIXELS, UNITS), _random(UNITS, CLASSES)
    hidden, logits = _random(batch, UNITS), _random(batch, CLASSES)

    def calls() -> None:
        for _ in range(images // batch):
            np.matmul(x, w1, out=hidden)
            np.matmul(hidden, w2, out=logits)

    return calls


def square(side: int) -> Callable[[], object]:
    a, b = _random(side, side), _random(side, side)
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out)


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32) * 1e-3


if __name__ == "__main__":
    serve({"training": training, "inference": inference, "square": square}[sys.argv[1]](*map(int, sys.argv[2:])))
