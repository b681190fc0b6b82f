import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core.errors import MissingInputError
from pipeline.core.params import ModelParams
from pipeline.data.datasets import Split
from pipeline.training import network

IMAGE = (28, 28)


def params(*hidden: int, activation: Any = "relu") -> ModelParams:
    return ModelParams(hidden_units=hidden, activation=activation)


def test_the_default_network_has_203_530_parameters() -> None:
    assert network.build(params(256), IMAGE, classes=10, seed=0).count_params() == 784 * 256 + 256 + 256 * 10 + 10 == 203_530


@pytest.mark.parametrize(("hidden", "image", "classes"), [((16,), (28, 28), 10), ((8, 4), (7, 5), 3)])
def test_the_network_has_the_layers_and_sizes_of_its_parameters(
    hidden: tuple[int, ...], image: tuple[int, int], classes: int
) -> None:
    model = network.build(params(*hidden), image, classes, seed=0)

    assert model.input_shape == (None, *image)
    assert model.output_shape == (None, classes)
    assert [layer.units for layer in model.layers if hasattr(layer, "units")] == [*hidden, classes]


def test_predictions_equal_those_computed_in_numpy(subset: dict[str, Split]) -> None:
    model, images = network.build(params(16), IMAGE, classes=10, seed=0), subset["test"].images[:20]
    kernel_1, bias_1, kernel_2, bias_2 = (np.asarray(weight, dtype=np.float64) for weight in model.get_weights())

    hidden = np.maximum(images.reshape(20, -1) / 255 @ kernel_1 + bias_1, 0)
    logits = hidden @ kernel_2 + bias_2
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-6)


def test_the_seed_determines_the_initial_weights() -> None:
    first, again, other = (network.build(params(8), IMAGE, 10, seed).get_weights()[0] for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_layers_of_equal_size_start_with_different_weights() -> None:
    _, _, second, _, third, *_ = network.build(params(8, 8, 8), IMAGE, 10, seed=0).get_weights()

    assert not np.array_equal(second, third)


def test_a_saved_network_predicts_as_before(tmp_path: Path, subset: dict[str, Split]) -> None:
    model, images = network.build(params(8), IMAGE, 10, seed=0), subset["test"].images[:20]

    network.save(model, tmp_path / "model.keras")

    loaded = network.load(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), model.predict(images, verbose=0))


def test_equal_weights_give_equal_bytes_at_different_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Both networks exist at once, so that they have different memory addresses.
    networks = [network.build(params(8, 8), IMAGE, 10, seed=0) for _ in range(2)]
    for name, model in zip("ab", networks, strict=True):
        network.save(model, tmp_path / f"{name}.keras")
        monkeypatch.setattr("time.time", lambda: 2e9)  # the clock that zipfile and Keras read, years later

    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.keras", "b.keras"]


def test_a_missing_file_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"model\.keras: expected this file"):
        network.load(tmp_path / "model.keras")


@pytest.mark.parametrize(("columns", "encoding", "terminal"), [("50", "ascii", "xterm"), ("200", "latin-1", "dumb")])
def test_the_summary_is_the_same_on_any_terminal(
    columns: str, encoding: str, terminal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = network.build(params(256), IMAGE, 10, seed=0)
    expected = network.summary(built)
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding))

    assert network.summary(built) == expected
    assert max(map(len, expected.splitlines())) == 80


def test_the_summary_names_every_layer_and_the_total() -> None:
    summary = network.summary(network.build(params(256), IMAGE, 10, seed=0))

    assert "hidden_1" in summary
    assert "200,960" in summary
    assert "203,530" in summary
