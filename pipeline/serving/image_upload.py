"""Predict a PNG, JPEG or WebP file that is the body of a request."""

from io import BytesIO

from PIL import Image

from pipeline.core.params import Layout
from pipeline.data.errors import ImageFileError
from pipeline.inference.onnx_model import Probabilities
from pipeline.serving import preprocessing
from pipeline.serving.exchange import RefusedRequestError, Request, Response, json_response
from pipeline.serving.preprocessing import Images
from pipeline.serving.served_model import ServedModel

FORMATS = ("PNG", "JPEG", "WEBP")
MOST_PIXELS = 25_000_000  # `predict` takes larger ones; here, others wait for the memory


def read(request: Request, layout: Layout | None) -> Images:
    """Decode the picture and bring it to the model's size, as `predict` does.

    Raises:
        RefusedRequestError: it is no such picture, is damaged, too large, or shows nothing; or the server knows no layout.
    """
    if layout is None:
        expected = "a model whose contract.json states its layout, or a server that was started with --layout"
        raise RefusedRequestError(501, "layout", f"expected {expected}, found neither; send arrays instead")
    try:
        with Image.open(BytesIO(request.body), formats=FORMATS) as image:
            width, height = image.size
    except Exception as error:  # Pillow parses in Python, so a damaged file can raise almost any exception
        raise RefusedRequestError(
            400, "picture", "expected a PNG, JPEG or WebP file, found another or a damaged one"
        ) from error
    if width * height > MOST_PIXELS:
        raise RefusedRequestError(413, "picture", f"expected at most {MOST_PIXELS:,} pixels, found {width}x{height}")
    try:
        return preprocessing.from_bytes(request.body, request.served.model.image_shape, layout)
    except ImageFileError as error:
        raise RefusedRequestError(400, "picture", str(error)) from error


def answer(images: Images, probabilities: Probabilities, served: ServedModel) -> Response:
    """Class, probability and changes, as `predict --json` calls them."""
    row, names = probabilities[0], served.model.names
    content = {
        "label": names[row.argmax()],
        "probability": round(float(row.max()), 6),
        "probabilities": {name: round(float(value), 6) for name, value in zip(names, row, strict=True)},
        "changes": list(images.changes),
        "model_version": served.version,
    }
    return json_response(content)
