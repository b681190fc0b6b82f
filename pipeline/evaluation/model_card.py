"""What comes with the model, so that a stranger can use it safely: a card to read, and a contract to run."""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from pipeline.data.datasets import Pixels
from pipeline.inference.onnx_model import INPUT, OUTPUT, Probabilities

Figures = Mapping[str, Any]

_TOLERANCE = 1e-4  # of a probability: processors round differently, and decisions are to be the same


def contract(
    files: Mapping[str, str], opset: int, ir_version: int, classes: Sequence[str], images: Pixels, expected: Probabilities
) -> dict[str, Any]:
    """What the files take and give, and test vectors that a consumer can run.

    Args:
        files: the SHA-256 of each model file, by name.
        images: `(n, height, width)` uint8, some images of the training split.
        expected: what model.onnx gives for them, `(n, classes)`.
    """
    _, height, width = images.shape
    return {
        "files": dict(files),
        "format": {"onnx_opset": opset, "onnx_ir_version": ir_version},
        "input": {
            "name": INPUT,
            "dtype": "uint8",
            "shape": ["batch", height, width],
            "range": [0, 255],
            "ground": "0 is black",
        },
        "output": {"name": OUTPUT, "dtype": "float32", "shape": ["batch", len(classes)], "range": [0, 1], "rows_sum_to": 1},
        "classes": list(classes),
        "test_vectors": {
            "from": "the training split",
            "tolerance": _TOLERANCE,
            INPUT: images.tolist(),
            OUTPUT: [[round(float(value), 7) for value in row] for row in expected],
        },
    }


def card(manifest: Figures, chosen: Figures, metrics: Figures, per_class: Sequence[Figures], contract: Figures) -> str:
    """The model card, after Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.

    Args:
        manifest: of the data.
        chosen: sections model, train and evaluate of the parameters.
        metrics: data/evaluation/metrics.json.
        per_class: for each class its name, images, precision, recall and F1 by the float32 file.
        contract: as `contract` makes it.
    """
    shapes = {name: entry["shape"] for name, entry in manifest["files"].items()}
    test = shapes["test_images"][0]
    return "\n".join(
        [
            f"# Model card: {manifest['dataset']}",
            "",
            *_use(contract, manifest),
            *_files(contract["files"]),
            *_data(manifest),
            *_training(chosen),
            *_results(metrics, test, chosen["evaluate"]),
            *_classes(per_class),
            *_limits(metrics, contract),
        ]
    )


def _use(contract: Figures, manifest: Figures) -> list[str]:
    _, height, width = contract["input"]["shape"]
    classes, versions = contract["classes"], contract["format"]
    return [
        "## What it is for",
        "",
        f"It tells which of {len(classes)} classes a single grey image of {height}x{width} pixels shows, as in the dataset "
        f"{manifest['dataset']}. It always names one, also for an image that shows none of them.",
        "",
        "## How to call it",
        "",
        "```python",
        "import numpy as np, onnxruntime",
        "",
        'session = onnxruntime.InferenceSession("model.onnx")',
        f"images = np.zeros((1, {height}, {width}), np.uint8)  # 0 is black, 255 is white; no scaling",
        f'(probabilities,) = session.run(["{OUTPUT}"], {{"{INPUT}": images}})',
        "```",
        "",
        f"Input `{INPUT}`: uint8 `(batch, {height}, {width})`. Output `{OUTPUT}`: float32 `(batch, {len(classes)})`, in the "
        f"order {', '.join(classes)}. ONNX opset {versions['onnx_opset']}, IR version {versions['onnx_ir_version']}. "
        "`contract.json` holds test vectors: images with the probabilities to expect.",
        "",
    ]


def _files(files: Mapping[str, str]) -> list[str]:
    rows = [f"| {name} | `{sha256}` |" for name, sha256 in files.items()]
    return ["## Files", "", "| file | SHA-256 |", "|---|---|", *rows, ""]


def _data(manifest: Figures) -> list[str]:
    rows = [
        f"| {name} | {'x'.join(map(str, entry['shape']))} | `{entry['sha256']}` |" for name, entry in manifest["files"].items()
    ]
    return [
        "## Data",
        "",
        f"Licence: {manifest['licence']}. Fingerprint `{manifest['fingerprint']}`.",
        "",
        "| file | shape | SHA-256 of its IDX content |",
        "|---|---|---|",
        *rows,
        "",
    ]


def _training(chosen: Figures) -> list[str]:
    flat = {f"{section}.{key}": value for section in ("model", "train") for key, value in chosen[section].items()}
    return ["## Training", "", *(f"- `{name}`: {_plain(value)}" for name, value in flat.items()), ""]


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {entry}" for key, entry in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _results(metrics: Figures, test: int, evaluate: Figures) -> list[str]:
    names = {
        "accuracy": "accuracy",
        "shifted_accuracy": f"accuracy, shifted by {evaluate['shift']} pixels",
        "rotated_accuracy": f"accuracy, turned by {evaluate['rotation']:g} degrees",
        "noisy_accuracy": f"accuracy, with noise of standard deviation {evaluate['noise']:g}",
    }
    rows = [
        f"| {title} | {_interval(metrics[name], test)} | {_interval(metrics['int8'][name], test)} |"
        for name, title in names.items()
    ]
    others = [
        f"| {name.replace('_', ' ')} | {metrics[name]:.4f} | {metrics['int8'][name]:.4f} |"
        for name in ("log_loss", "calibration_error", "worst_recall")
    ]
    return [
        "## Results",
        "",
        f"On the {test:,} images of the test split, which chose nothing; in brackets Wilson's 95 % intervals.",
        "",
        "| | model.onnx | model.int8.onnx |",
        "|---|---|---|",
        *rows,
        *others,
        f"| bytes | {metrics['bytes']:,} | {metrics['int8']['bytes']:,} |",
        "",
        f"The int8 file decides as the float32 file does on {metrics['int8']['agreement']:.2%} of them.",
        "",
    ]


def _interval(share: float, count: int) -> str:
    """The share with its 95 % interval by Wilson's method (Journal of the American Statistical Association 22, 1927)."""
    low, high = wilson(share, count)
    return f"{share:.2%} [{low:.2%}, {high:.2%}]"


def wilson(share: float, count: int) -> tuple[float, float]:
    """The bounds of that interval. SciPy has them too, and takes a second to import."""
    z = NormalDist().inv_cdf(0.975)
    middle, half = share + z**2 / (2 * count), z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, (middle - half) / (1 + z**2 / count)), min(1.0, (middle + half) / (1 + z**2 / count))


def _classes(per_class: Sequence[Figures]) -> list[str]:
    rows = [
        f"| {row['class']} | {row['images']} | {row['precision']:.4f} | {recall} | {row['f1']:.4f} |"
        for row, recall in ((row, _interval(row["recall"], row["images"])) for row in per_class)
    ]
    return ["## Each class", "", "| class | images | precision | recall | F1 |", "|---|---|---|---|---|", *rows, ""]


def _limits(metrics: Figures, contract: Figures) -> list[str]:
    _, height, width = contract["input"]["shape"]
    lost = metrics["accuracy"] - metrics["shifted_accuracy"]
    return [
        "## Limits",
        "",
        f"- A dense network sees each pixel by its place: a small shift costs it {lost:.2%} of accuracy. Bring images to the "
        "convention of the training data first; `python -m pipeline.predict` does.",
        "- A high probability is no proof that the image shows any of the classes.",
        f"- Images of another size than {height}x{width} are refused by the runtime, values outside 0 to 255 cannot be given.",
        "- It says nothing of people: do not use it to tell who wrote something.",
        "",
    ]


def vectors(images: Pixels, labels: Pixels, count: int = 3) -> Pixels:
    """The first image of each of some labels: `(count, height, width)`, fewer where there are fewer labels."""
    _, first = np.unique(labels, return_index=True)
    return np.asarray(images[np.sort(first)[:count]])
