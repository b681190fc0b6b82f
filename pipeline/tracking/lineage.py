"""The lineage of a model: everything that decides its weights but the seed. Models of one lineage differ by chance alone."""

import hashlib
import json
from pathlib import Path

from pipeline.core import versions
from pipeline.core.params import Params
from pipeline.core.paths import Paths

# What decides the weights and the exported graph. tests/tracking/test_lineage.py compares this with dvc.yaml.
CODE = ("train.py", "export.py", "data", "inference", "training")
LIBRARIES = ("keras", "numpy", "onnx", "onnxruntime", "tensorflow", "tf2onnx")

_PACKAGE = Path(__file__).parent.parent


def digest(fingerprint: str, params: Params, paths: Paths) -> str:
    """Return the SHA-256 of a lineage.

    It covers the data's `fingerprint`, the parameters of model, train (without the seed) and export, the code, and the
    library versions of requirements/versions.yaml.
    """
    locked = versions.locked(paths)
    content = {
        "data": fingerprint,
        "model": params.model.model_dump(),
        "train": params.train.model_dump(exclude={"seed"}),
        "export": params.export.model_dump(),
        "code": {name: _sha256(_PACKAGE / name) for name in CODE},
        "libraries": {name: locked.get(name) for name in LIBRARIES},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    """SHA-256 of a Python file, or of all in a folder, by names and contents."""
    found = hashlib.sha256()
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
        found.update(f"{file.relative_to(_PACKAGE).as_posix()}\n".encode() + file.read_bytes())
    return found.hexdigest()
