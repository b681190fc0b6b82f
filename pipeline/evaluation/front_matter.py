"""The metadata at the start of the model card, in YAML: the Hugging Face Hub and its library read them."""

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML

Content = Mapping[str, Any]

_TASK = "image-classification"
# Identifiers of the Hub for licences that data sets have. https://huggingface.co/docs/hub/repositories-licenses
_LICENCES = {
    *("apache-2.0", "bsd-3-clause", "mit", "odbl", "pddl", "cc0-1.0"),
    *(f"cc-by-{version}" for version in ("2.0", "2.5", "3.0", "4.0")),
    *("cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0"),
    *("cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
}
_METRICS = {  # of metrics.json, by its name for people
    "accuracy": "Accuracy",
    "worst_recall": "Lowest recall of a class",
    "log_loss": "Log loss",
    "calibration_error": "Expected calibration error",
}


def render(manifest: Content, metrics: Content) -> str:
    """The metadata between two lines of dashes. The licence is that of the data, from which the weights were made."""
    name = manifest["dataset"]
    measured = [{"type": key, "name": title, "value": metrics[key]} for key, title in _METRICS.items()]
    result = {
        "task": {"type": _TASK},
        "dataset": {"type": name, "name": name, "split": "test"},
        "metrics": measured,
    }
    content = {
        **licence(manifest["licence"]),
        "library_name": "onnx",
        "pipeline_tag": _TASK,
        "tags": ["onnx", "onnxruntime", _TASK],
        "metrics": list(_METRICS),
        "model-index": [{"name": name, "results": [result]}],
    }
    text, yaml = io.StringIO(), YAML()
    yaml.width = 10_000  # no line breaks inside a value
    yaml.dump(content, text)
    return f"---\n{text.getvalue()}---\n"


def licence(text: str) -> dict[str, str]:
    """The Hub's identifier of a licence such as `CC BY-SA 3.0, Ada Lovelace`; `other` and its name if the Hub has none."""
    known = text.partition(",")[0].strip().lower().replace(" ", "-")
    known = "cc0-1.0" if known == "cc0" else known
    return {"license": known} if known in _LICENCES else {"license": "other", "license_name": text}
