"""Predict the images of a file, as JSON or as lines for the console."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.inference.onnx_model import OnnxModel
from pipeline.serving import image_files
from pipeline.serving.image_files import Reading


def predict_file(path: Path, model: OnnxModel, how: Reading = Reading()) -> dict[str, Any]:  # noqa: B008 - immutable
    """Return the file's name, the changes made to its image, and each image's label and probabilities.

    Raises:
        UnreadableImageError: the file holds no images that the model accepts.
    """
    images = image_files.read(path, model.image_shape, how)
    predictions = [
        {
            "label": model.names[row.argmax()],
            "probability": round(float(row.max()), 6),
            "probabilities": {name: round(float(value), 6) for name, value in zip(model.names, row, strict=True)},
        }
        for row in model.predict(images.pixels)
    ]
    return {"file": str(path), "changes": list(images.changes), "images": predictions}


def lines(result: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each image, with the two next likely classes, and one for each change."""
    for index, image in enumerate(result["images"]):
        ranked = sorted(image["probabilities"].items(), key=lambda entry: -entry[1])
        others = ", ".join(f"{name} {value:.1%}" for name, value in ranked[1:3])
        name = result["file"] if len(result["images"]) == 1 else f"{result['file']}[{index}]"
        yield f"{name}  {image['label']}  {image['probability']:.1%}  ({others})"
    for change in result["changes"]:
        yield f"  {change}"
