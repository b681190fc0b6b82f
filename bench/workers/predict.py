"""The forward pass: `python -m bench.workers.predict onnx|int8|identity|keras BATCH IMAGES`, over the test split."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.workers.rounds import serve
from pipeline.core.paths import Paths


def onnx(path: Path, images: np.ndarray) -> Callable[[], object]:
    from pipeline.inference.onnx_model import OnnxModel

    model = OnnxModel(path)
    return lambda: model.predict(images)


def identity(images: np.ndarray) -> Callable[[], object]:
    """An ONNX file that only returns its input, to measure the overhead of a call."""
    import onnxruntime
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.UINT8, [None, *images.shape[1:]]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda: session.run(["y"], {"x": images})


def keras(path: Path, images: np.ndarray) -> Callable[[], object]:
    from pipeline.training import network

    model = network.load(path)
    return lambda: model.predict(images, batch_size=len(images), verbose=0)


def main(kind: str, batch: int, total: int) -> None:
    paths, images = Paths(), np.load(Paths().raw / "test_images.npy")[:batch]
    call = {
        "onnx": lambda: onnx(paths.onnx, images),
        "int8": lambda: onnx(paths.int8, images),
        "identity": lambda: identity(images),
        "keras": lambda: keras(paths.keras, images),
    }[kind]()

    def calls() -> None:
        for _ in range(total // batch):
            call()

    serve(calls)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
