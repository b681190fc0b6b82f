"""The network: build, save and load it."""

import io
import json
import re
import zipfile
from contextlib import redirect_stdout
from pathlib import Path

import keras

from pipeline.core import files
from pipeline.core.environment import environment
from pipeline.core.errors import UnusableInputError, first_line
from pipeline.core.params import ModelParams

_PIXEL_MAX = 255
_SHARED = re.compile(r'"shared_object_id": \d{6,}')
_COLUMNS = 80
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the earliest time stamp of a zip archive


def build(params: ModelParams, image_shape: tuple[int, int], classes: int, seed: int) -> keras.Model:
    """The dense network: images `(n, height, width)` uint8 of 0 to 255 -> probabilities `(n, classes)` float32.

    With one hidden layer of 256 on images of 28x28 and ten classes it has 784 * 256 + 256 + 256 * 10 + 10 = 203,530
    parameters. Scaling is part of the network, so that callers pass raw pixels.
    """
    images = keras.Input(image_shape, dtype="uint8", name="image")
    return keras.Model(images, connect(images, _layers(params, classes, seed)), name="network")


def _layers(params: ModelParams, classes: int, seed: int) -> list[keras.Layer]:
    """The layers from image to probabilities, in order, with fixed names.

    Flattening comes first: for a flat image the ONNX converter turns scaling into one product, otherwise it adds zeros, too.
    """
    flatten, scale = keras.layers.Flatten(name="flatten"), keras.layers.Rescaling(1 / _PIXEL_MAX, name="scale")
    hidden = [
        _dense(units, params.activation, f"hidden_{number}", seed + number)
        for number, units in enumerate(params.hidden_units, 1)
    ]
    return [flatten, scale, *hidden, _dense(classes, "softmax", "probabilities", seed)]


def _dense(units: int, activation: str, name: str, seed: int) -> keras.layers.Dense:
    initializer = keras.initializers.GlorotUniform(seed=seed)
    return keras.layers.Dense(units, activation=activation, kernel_initializer=initializer, name=name)


def connect(inputs: keras.KerasTensor, chain: list[keras.Layer]) -> keras.KerasTensor:
    """Apply the layers of `chain` to `inputs`, one after the other."""
    outputs = inputs
    for layer in chain:
        outputs = layer(outputs)
    return outputs


def summary(network: keras.Model) -> str:
    """The text that `network.summary()` prints on a terminal that is 80 columns wide and shows all characters."""
    lines: list[str] = []
    with environment({"COLUMNS": str(_COLUMNS)}), redirect_stdout(io.StringIO()):
        network.summary(line_length=_COLUMNS, print_fn=lines.append)
    return "\n".join(lines) + "\n"


def save(network: keras.Model, path: Path) -> None:
    """Write the `.keras` file so that equal weights give equal bytes.

    Keras writes the current time into the archive, in two places, and the memory addresses of objects that layers share.
    """
    with files.replacing(path) as part, files.scratch(path.with_name("timed")) as folder:
        timed = folder / "timed.keras"
        network.save(timed)
        with zipfile.ZipFile(timed) as source, zipfile.ZipFile(part, "w") as target:
            for name in sorted(source.namelist()):
                content = source.read(name)
                if name.endswith(".json"):
                    content = _normalized(content.decode()).encode()
                target.writestr(zipfile.ZipInfo(name, _EARLIEST), content)


def _normalized(text: str) -> str:
    """Remove the time from the JSON `text`, and replace the addresses of shared objects by numbers."""
    for number, address in enumerate(dict.fromkeys(_SHARED.findall(text))):
        text = text.replace(address, f'"shared_object_id": {number}')
    content = json.loads(text)
    content.pop("date_saved", None)
    return json.dumps(content, sort_keys=True)


def load(path: Path) -> keras.Model:
    """Read a `.keras` file without running code from it.

    Raises:
        MissingInputError: there is no such file.
        UnusableInputError: it is not a Keras file, or loading it would run code from it.
    """
    files.require(path)
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras passes on the errors of its JSON, zip and HDF5 readers
        raise UnusableInputError(path, "a network saved by train", first_line(error)) from error
