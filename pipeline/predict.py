"""Say what pictures show: the reference consumer of the model. PNG, JPEG, npy or IDX in; labels and probabilities out."""

import argparse
import gzip
import json
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from pipeline.core import console, datasets, pictures
from pipeline.core.datasets import Pixels
from pipeline.core.errors import PipelineError, UnreadablePictureError
from pipeline.core.inference import OnnxModel
from pipeline.core.params import Params
from pipeline.core.paths import Paths

_MOST_BYTES = 4_000_000_000


class Images(NamedTuple):
    """What a file holds, `(n, height, width)` uint8, and what was done to get it."""

    pixels: Pixels
    changes: tuple[str, ...] = ()


def read(path: Path, shape: tuple[int, int]) -> Images:
    """Read one picture, or the images of an npy or IDX file, which must have the model's size.

    Raises:
        UnreadablePictureError: the file is none of these, is damaged, or holds images of another size.
    """
    if path.name.removesuffix(".gz").endswith(("ubyte", ".idx")):
        return Images(_sized(_read_idx(path), shape, path))
    if path.suffix == ".npy":
        return Images(_sized(_read_npy(path), shape, path))
    picture = pictures.read(path, shape)
    return Images(picture.image[None], picture.changes)


def _read_idx(path: Path) -> Pixels:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream, TemporaryDirectory() as folder:
            npy = Path(folder) / "images.npy"
            datasets.decode_idx(stream, 3, npy, _MOST_BYTES)  # type: ignore[arg-type]  # gzip's reader reads as any other
            return np.asarray(np.load(npy, allow_pickle=False))
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadablePictureError(path, "an IDX file", str(error) or "one that is cut short") from error


def _read_npy(path: Path) -> Pixels:
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise UnreadablePictureError(path, "an npy file of numbers", str(error).partition("\n")[0]) from error


def _sized(found: Pixels, shape: tuple[int, int], path: Path) -> Pixels:
    pixels = found[None] if found.ndim == 2 else found
    if pixels.dtype != np.uint8 or pixels.shape[1:] != shape or not len(pixels):
        raise UnreadablePictureError(path, f"uint8 (n, {shape[0]}, {shape[1]})", f"{found.dtype} {found.shape}")
    return pixels


def predict(path: Path, model: OnnxModel, classes: list[str]) -> dict[str, Any]:
    """The file's name, what was done to its picture, and for each image the label and the probability of each class."""
    images = read(path, model.image_shape)
    probabilities = model.predict(images.pixels)
    found = [
        {
            "label": classes[row.argmax()],
            "probability": round(float(row.max()), 6),
            "probabilities": {name: round(float(value), 6) for name, value in zip(classes, row, strict=True)},
        }
        for row in probabilities
    ]
    return {"file": str(path), "changes": list(images.changes), "images": found}


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The result of a file as a table: a line an image, with the two next likely classes."""
    for number, image in enumerate(result["images"]):
        ranked = sorted(image["probabilities"].items(), key=lambda entry: -entry[1])
        others = ", ".join(f"{name} {value:.1%}" for name, value in ranked[1:3])
        name = result["file"] if len(result["images"]) == 1 else f"{result['file']}[{number}]"
        yield f"{name}  {image['label']}  {image['probability']:.1%}  ({others})"
    for change in result["changes"]:
        yield f"  {change}"


def open_model(source: str, params: Params, paths: Paths) -> OnnxModel:
    """The model in the file `source`, or of the registry where `source` is a `models:/` address."""
    if not source.startswith("models:/"):
        return OnnxModel(Path(source))
    from pipeline.core import registry, tracking  # MLflow takes seconds, and a file does without

    with tracking.answering(paths), TemporaryDirectory(prefix="predict-") as folder:
        tracking.connect(params, paths)
        return OnnxModel(registry.download_uri(source, Path(folder)) / "model.onnx")


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    model = open_model(options.model or str(paths.onnx), params, paths)
    classes = json.loads(model.metadata.get("classes", "null")) or [str(number) for number in range(model.classes)]
    results, failed = [], False
    for name in options.files:
        try:
            results.append(predict(Path(name), model, classes))
        except PipelineError as error:  # the other files have their answers all the same
            failed = True
            print(f"error: {error}", file=sys.stderr)
    if options.json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
    else:
        for result in results:
            print("\n".join(lines(result)))
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m pipeline.predict", description=__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--model", help="an ONNX file, or models:/NAME@ALIAS; data/model/model.onnx where not given")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    sys.exit(console.run_command(parser, run))
