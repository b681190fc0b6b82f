"""Epochs in JAX: one compiled scan over shuffled batches of 128, cross entropy, Optax's Adam."""

from typing import Any

import jax
import numpy as np
import optax
from jax import numpy as jnp

from bench.workers.rounds import serve

BATCH = 128
images = jnp.asarray(np.load("data/raw/train_images.npy").astype("float32").reshape(-1, 784) / 255)
labels = jnp.asarray(np.load("data/raw/train_labels.npy").astype("int32"))
first, second, shuffling = jax.random.split(jax.random.key(0), 3)
glorot = jax.nn.initializers.glorot_uniform()
weights = (glorot(first, (784, 256)), jnp.zeros(256), glorot(second, (256, 10)), jnp.zeros(10))
optimizer = optax.adam(1e-3)


def loss(weights: Any, x: Any, y: Any) -> Any:
    w1, b1, w2, b2 = weights
    logits = jax.nn.relu(x @ w1 + b1) @ w2 + b2
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


@jax.jit
def epoch(state: Any, key: Any) -> Any:
    order = jax.random.permutation(key, len(labels))[: len(labels) // BATCH * BATCH].reshape(-1, BATCH)

    def step(state: Any, rows: Any) -> Any:
        weights, moments = state
        value, gradient = jax.value_and_grad(loss)(weights, images[rows], labels[rows])
        change, moments = optimizer.update(gradient, moments)
        return (optax.apply_updates(weights, change), moments), value

    return jax.lax.scan(step, state, order)


state = (weights, optimizer.init(weights))


def run_epoch() -> None:
    global state, shuffling
    shuffling, key = jax.random.split(shuffling)
    state, losses = epoch(state, key)
    losses.block_until_ready()


serve(run_epoch)
