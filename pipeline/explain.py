"""Build the explorer: one HTML page that shows how the exported network predicts.

Write data/explorer/index.html; `make explore` opens it.

Example:
    python -m pipeline.explain
"""

import sys
from typing import Any

from pipeline.core import console, files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data import datasets, history
from pipeline.explorer import network, page
from pipeline.inference import onnx_model
from pipeline.inference.onnx_model import OnnxModel
from pipeline.training import snapshots


def too_large(params: Params, paths: Paths) -> str:
    """Say why there is no page for this network; nothing if there is one."""
    exported = network.exported_weights(onnx_model.dense_layers(paths.onnx))
    _, height, width = datasets.open_split(paths, "test").images.shape
    distorted = snapshots.load_distorted(paths.distorted)
    chosen = len(params.fetch.classes) * (params.explain.samples + 1) + params.explain.mistakes
    size = page.least_bytes(exported, chosen + distorted.shape[0] * distorted.shape[1], height * width)
    if size <= page.MOST_BYTES:
        return ""
    parameters = sum(array.size for array in exported)
    return (
        f"With {parameters:,} parameters and images of {height}x{width}, the page would have {size / 1e6:.0f} MB; "
        f"at most {page.MOST_BYTES / 1e6:.0f} MB are written. Smaller images or model.hidden_units make it fit."
    )


def content(params: Params, paths: Paths) -> dict[str, Any]:
    """Read the data, the model and its snapshots, and encode them for the page."""
    train, test = datasets.load(paths, "train"), datasets.load(paths, "test")
    exported = network.exported_weights(onnx_model.dense_layers(paths.onnx))
    predicted = OnnxModel(paths.onnx).predict(test.images)
    return {
        **page.settings_json(params, datasets.read_manifest(paths), test.images.shape[1:]),
        "snapshots": [
            *page.snapshots_json(snapshots.load(paths.snapshots), exported, params.model.activation, test),
            page.exported_json(exported, len(history.read(paths.history)), files.read_json(paths.metrics)),
        ],
        "samples": page.images_json(test, page.samples(test.labels, params.explain.samples)),
        "mistakes": page.images_json(test, page.mistakes(test.labels, predicted, params.explain.mistakes)),
        "data": page.data_json(train, test, len(params.fetch.classes), snapshots.load_distorted(paths.distorted)),
    }


def run(params: Params, paths: Paths) -> str:
    if reason := too_large(params, paths):
        files.write_text(paths.page, page.note(reason))
        return f"{paths.page} holds a note instead of the network. {reason}"
    html = page.render(content(params, paths))
    files.write_text(paths.page, html)
    return f"{paths.page}, {len(html.encode()) / 1e6:.1f} MB: `make explore`"


if __name__ == "__main__":
    sys.exit(console.run_stage("explain", run, __doc__))
