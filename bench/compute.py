"""Training and inference speed against plain matrix products and other libraries: `python -m bench.compute`."""

import sys
from pathlib import Path

import numpy as np

from bench import report
from bench.interleave import PEERS, interleave, ratio
from bench.rows import Row, seconds, table
from pipeline.core.paths import Paths
from pipeline.evaluation import metrics
from pipeline.inference.onnx_model import OnnxModel, Probabilities

TRAINING = {
    "products": ["products", "training", "128"],
    "pipeline": ["pipeline_fit", "plain", "128"],
    "Keras defaults": ["keras_fit"],
    "PyTorch loop": ["torch_fit"],
    "JAX scan": ["jax_fit"],
}
AUGMENTATION = {"plain": ["pipeline_fit", "plain", "384"], "augmented": ["pipeline_fit", "augmented", "384"]}
INFERENCE = {
    "products": ["products", "inference", "10000", "240000"],
    "float32": ["predict", "onnx", "10000", "240000"],
    "int8": ["predict", "int8", "10000", "240000"],
    "Keras predict": ["predict", "keras", "10000", "240000"],
    "PyTorch": ["torch_predict", "240000"],
}
ONE = {
    "Identity": ["predict", "identity", "1", "2000"],
    "float32": ["predict", "onnx", "1", "2000"],
    "int8": ["predict", "int8", "1", "2000"],
    "Keras predict": ["predict", "keras", "1", "20"],
}


def training() -> tuple[list[Row], str]:
    taken = interleave(TRAINING)
    plain = interleave(AUGMENTATION)
    what = "training throughput without augmentation, batches of 128"
    rows = [
        Row(what, "float32 matrix products", ratio(taken, "products", "pipeline"), least=0.85),
        Row(what, "Keras defaults, batches of 32", ratio(taken, "Keras defaults", "pipeline"), least=5),
        Row(what, "PyTorch loop", ratio(taken, "PyTorch loop", "pipeline"), least=1),
        Row(what, "JAX scan", ratio(taken, "JAX scan", "pipeline"), least=0.95),
        Row(
            "time of an augmented epoch, batches of 384",
            "epoch without augmentation",
            ratio(plain, "augmented", "plain"),
            most=1.7,
        ),
    ]
    return rows, "An epoch of 60,000 images:\n\n" + seconds(taken | plain, images=60_000)


def inference() -> tuple[list[Row], str]:
    many, one = interleave(INFERENCE), interleave(ONE)
    one["Keras predict"] = [100 * taken for taken in one["Keras predict"]]  # it makes a hundredth of the calls
    paths = Paths()
    images = np.load(paths.raw / "test_images.npy")
    labels = np.load(paths.raw / "test_labels.npy")
    float32, int8 = (OnnxModel(path).predict(images) for path in (paths.onnx, paths.int8))

    def loss(probabilities: Probabilities) -> float:
        return metrics.log_loss(labels, probabilities)

    size = paths.int8.stat().st_size / paths.onnx.stat().st_size
    what = "ONNX throughput, 10,000 images per call"
    rows = [
        Row(what, "float32 matrix products", ratio(many, "products", "float32"), least=0.9),
        Row(what, "Keras `predict`", ratio(many, "Keras predict", "float32"), least=3),
        Row(what, "PyTorch", ratio(many, "PyTorch", "float32"), least=1),
        Row("time of one image in ONNX", "empty call (Identity)", ratio(one, "float32", "Identity"), most=3),
        Row("time of one image in ONNX", "Keras `predict`", ratio(one, "float32", "Keras predict"), most=0.01),
        Row("throughput of int8, 10,000 images per call", "float32", ratio(many, "float32", "int8"), least=2.7),
        Row("time of one image in int8", "float32", ratio(one, "int8", "float32"), most=1),
        Row("size of the int8 file", "float32", size, most=0.26),
        Row("equal decisions of int8 on the test split", "float32", metrics.agreement(float32, int8), least=0.9998),
        Row("log loss of int8 on the test split", "float32", loss(int8) / loss(float32), most=1.01),
    ]
    details = "240,000 images, 10,000 per call:\n\n" + seconds(many, images=240_000)
    return rows, details + "\n\n2,000 images, one per call:\n\n" + seconds(one, images=2_000)


def main() -> int:
    if not Path(PEERS).exists():
        print(
            f"error: expected PyTorch and JAX in {PEERS.parent.parent}, found none. Run `make bench`: it installs them.",
            file=sys.stderr,
        )
        return 1
    trained, training_details = training()
    inferred, inference_details = inference()
    described = report.machine("python -m bench.compute", "tensorflow", "keras", "onnxruntime", "numpy")
    report.put("Training", f"{described}\n\n{table(trained)}\n\n{training_details}\n")
    report.put("Inference", f"{described}\n\n{table(inferred)}\n\n{inference_details}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
