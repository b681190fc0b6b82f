"""The model card: what the model is for, how to use it, how good it is, and where it fails."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.core.intervals import with_interval
from pipeline.evaluation import front_matter
from pipeline.inference.onnx_model import INPUT, OUTPUT

Content = Mapping[str, Any]


def render(
    manifest: Content, params: Content, metrics: Content, per_class: Sequence[Content], contract: Content, int8: str
) -> str:
    """The model card in Markdown with front matter, after Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.

    Args:
        manifest: of the data.
        params: sections model, train and evaluate of params.yaml.
        metrics: data/evaluation/metrics.json.
        per_class: class, images, precision, recall and F1 of the float32 file.
        contract: from `contract.build`.
        int8: the state of the int8 file, from parity.json: why it is missing, if it is.
    """
    shapes = {name: entry["shape"] for name, entry in manifest["files"].items()}
    test = shapes["test_images"][0]
    return "\n".join(
        [
            front_matter.render(manifest, metrics),
            f"# Model card: {plain(manifest['dataset'])}",
            "",
            *_use(contract, manifest),
            *_files(contract["files"]),
            *_data(manifest),
            *_training(params),
            *_results(metrics, test, params["evaluate"], int8),
            *_classes(per_class),
            *_slices(metrics.get("slices", {})),
            *_limits(metrics, contract),
        ]
    )


def _use(contract: Content, manifest: Content) -> list[str]:
    _, height, width = contract["input"]["shape"]
    classes, versions = contract["classes"], contract["format"]
    return [
        "## Intended use",
        "",
        f"The model classifies a single grayscale image of {height}x{width} pixels into one of the {len(classes)} classes of "
        f"{plain(manifest['dataset'])}. It always predicts one of them, even for an image that shows none.",
        "",
        "## Usage",
        "",
        "```python",
        "import numpy as np, onnxruntime",
        "",
        'session = onnxruntime.InferenceSession("model.onnx")',
        f"images = np.zeros((1, {height}, {width}), np.uint8)  # 0 is black, 255 is white; no scaling",
        f'(probabilities,) = session.run(["{OUTPUT}"], {{"{INPUT}": images}})',
        "```",
        "",
        f"Input `{INPUT}`: uint8 `(batch, {height}, {width})`. Output `{OUTPUT}`: float32 `(batch, {len(classes)})`, "
        f"classes in the order {', '.join(map(plain, classes))}. "
        f"ONNX opset {versions['onnx_opset']}, IR version {versions['onnx_ir_version']}: ONNX Runtime "
        f"{versions['oldest_onnxruntime']} and later. "
        "`contract.json` holds test vectors: images with their expected probabilities, and a tolerance for each file.",
        "",
    ]


def _files(files: Mapping[str, str]) -> list[str]:
    rows = [f"| {name} | `{sha256}` |" for name, sha256 in files.items()]
    return ["## Files", "", "| file | SHA-256 |", "|---|---|", *rows, ""]


def _data(manifest: Content) -> list[str]:
    rows = [
        f"| {name} | {'x'.join(map(str, entry['shape']))} | `{entry['sha256']}` |" for name, entry in manifest["files"].items()
    ]
    return [
        "## Data",
        "",
        f"Licence: {plain(manifest['licence'])}. Fingerprint `{manifest['fingerprint']}`.",
        "",
        "| file | shape | SHA-256 of its IDX content |",
        "|---|---|---|",
        *rows,
        "",
    ]


def _training(params: Content) -> list[str]:
    flat = {f"{section}.{key}": value for section in ("model", "train") for key, value in params[section].items()}
    return ["## Training parameters", "", *(f"- `{name}`: {_plain(value)}" for name, value in flat.items()), ""]


def plain(text: str) -> str:
    """Text with the signs escaped that mean something in Markdown or HTML, if it contains such a sign."""
    return re.sub(r"([\\`*_\[\]<>&|$~#])", r"\\\1", text)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {entry}" for key, entry in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _results(metrics: Content, test: int, evaluate: Content, int8: str) -> list[str]:
    files = {"model.onnx": metrics} | ({"model.int8.onnx": metrics["int8"]} if "int8" in metrics else {})
    names = {
        "accuracy": "accuracy",
        "shifted_accuracy": f"accuracy, shifted by {evaluate['shift']} pixels",
        "rotated_accuracy": f"accuracy, rotated by {evaluate['rotation']:g} degrees",
        "noisy_accuracy": f"accuracy, with noise of standard deviation {evaluate['noise']:g}",
    }
    rows = [[title, *(with_interval(file[name], test) for file in files.values())] for name, title in names.items()]
    others = [
        [name.replace("_", " "), *(f"{file[name]:.4f}" for file in files.values())]
        for name in ("log_loss", "calibration_error", "worst_recall")
    ]
    sizes = ["bytes", *(f"{file['bytes']:,}" for file in files.values())]
    sentence = f"`model.int8.onnx` was {int8}."
    if "int8" in metrics:
        sentence = f"Both files predict the same class for {metrics['int8']['agreement']:.2%} of the images."
    return [
        "## Results",
        "",
        f"On the {test:,} images of the test split, which no choice was based on. In brackets: Wilson's 95 % intervals.",
        "",
        *(f"| {' | '.join(row)} |" for row in [["", *files], ["---"] * (1 + len(files)), *rows, *others, sizes]),
        "",
        sentence,
        "",
    ]


def _classes(per_class: Sequence[Content]) -> list[str]:
    rows = [
        f"| {plain(row['class'])} | {row['images']} | {row['precision']:.4f} | {recall} | {row['f1']:.4f} |"
        for row, recall in ((row, with_interval(row["recall"], row["images"])) for row in per_class)
    ]
    return ["## Results per class", "", "| class | images | precision | recall | F1 |", "|---|---|---|---|---|", *rows, ""]


def _slices(slices: Mapping[str, Content]) -> list[str]:
    if not slices:
        return []
    rows = [
        f"| {name} | {part['images']:,} | {with_interval(part['accuracy'], part['images'])} |" for name, part in slices.items()
    ]
    return [
        "## Results on recent images",
        "",
        "Images of what was served, labelled later and never trained on. `recent` are the newest sets together.",
        "",
        "| slice | images | accuracy |",
        "|---|---|---|",
        *rows,
        "",
    ]


def _limits(metrics: Content, contract: Content) -> list[str]:
    _, height, width = contract["input"]["shape"]
    lost = metrics["accuracy"] - metrics["shifted_accuracy"]
    return [
        "## Limitations",
        "",
        f"- A dense network does not generalize over positions: a small shift costs {lost:.2%} of accuracy. Centre and scale "
        "images like the training data first, as `python -m pipeline.predict` does.",
        "- A high probability does not mean that the image shows one of the classes.",
        f"- Only images of {height}x{width} pixels are accepted.",
        "- The model knows nothing about people: do not use it to identify who wrote something.",
        "",
    ]
