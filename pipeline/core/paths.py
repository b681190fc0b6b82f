"""The path of every file that stages and commands exchange."""

import os
from pathlib import Path

from pipeline.core import files

TRACKING_URI = "MLFLOW_TRACKING_URI"

# These hold run identifiers and timings. Every other output is deterministic: the same inputs give the same bytes.
TIME_DEPENDENT = ("data/model/run.json", "data/evaluation/latency.json", "data/registration.json")

# In the path of a checkout, `:` separates entries of PATH, `{}` are placeholders for DVC, `?` and `%` have a meaning in the
# address of the store, and MLflow writes quotes and backslashes into SQL without care.
_REFUSED = ':{}?%"\\'


class Paths:
    """The files below `root`. DVC runs a stage in the root of the repository, or of the copy that an experiment works in."""

    def __init__(self, root: Path = Path()) -> None:
        self.root = root
        self.params = root / "params.yaml"
        self.versions = root / "requirements" / "versions.yaml"
        self.data = root / "data"
        # Experiments that DVC runs in a copy of the repository share the repository's MLflow store.
        self.store = Path(os.environ.get("DVC_ROOT", root)).absolute() / "mlruns"
        self.database = self.store / "mlflow.db"
        self._set_stage_outputs()
        self._set_command_outputs()

    def _set_stage_outputs(self) -> None:
        self.raw = self.data / "raw"
        self.manifest = self.raw / "manifest.json"

        self.validation = self.data / "validation"
        self.report = self.validation / "report.json"
        self.report_page = self.validation / "report.html"
        self.data_docs = self.validation / "data_docs"

        self.model = self.data / "model"
        self.keras = self.model / "model.keras"
        self.summary = self.model / "summary.txt"
        self.history = self.model / "history.csv"
        self.snapshots = self.model / "snapshots.npz"
        self.distorted = self.model / "distorted.npy"
        self.run = self.model / "run.json"
        self.onnx = self.model / "model.onnx"
        self.int8 = self.model / "model.int8.onnx"
        self.parity = self.model / "parity.json"

        self.evaluation = self.data / "evaluation"
        self.metrics = self.evaluation / "metrics.json"
        self.latency = self.evaluation / "latency.json"
        self.per_class = self.evaluation / "per_class.csv"
        self.predictions = self.evaluation / "predictions.csv"
        self.plots = self.evaluation / "plots"
        self.model_card = self.evaluation / "model_card.md"
        self.contract = self.evaluation / "contract.json"

        self.explorer = self.data / "explorer"
        self.page = self.explorer / "index.html"

        self.registration = self.data / "registration.json"

    def _set_command_outputs(self) -> None:
        """Set the outputs of commands that are no stages. Neither git nor DVC keeps them; but DVC keeps data/collected/."""
        self.adopted = self.data / "adopted"
        self.promotion = self.data / "promotion.json"
        self.drift = self.data / "drift"
        self.drift_report = self.drift / "report.json"
        self.drift_distributions = self.drift / "distributions.png"
        self.drift_gallery = self.drift / "gallery.png"
        self.selected = self.data / "selected"
        self.selected_lock = self.data / "selected.lock"
        self.collected = self.data / "collected"
        self.live_accuracy = self.data / "live_accuracy"
        self.live_accuracy_report = self.live_accuracy / "report.json"
        self.retrain = self.data / "retrain"
        self.retrain_summary = self.retrain / "summary.md"
        self.retrain_lock = self.retrain / "lock"
        self.sweep = self.data / "sweep"
        self.sweep_record = self.sweep / "sweep.json"

    def models(self) -> dict[str, Path]:
        """The ONNX files by variant. Where export left out int8, its file is empty: DVC wants every output to exist."""
        variants = {"float32": self.onnx, "int8": self.int8}
        return {variant: path for variant, path in variants.items() if files.require(path).stat().st_size}

    @property
    def tracking_uri(self) -> str:
        """The address of the MLflow store: MLFLOW_TRACKING_URI, or the SQLite file in mlruns/.

        A relative path is relative to the repository, also in a copy that an experiment works in.
        """
        address = os.environ.get(TRACKING_URI) or f"sqlite:///{self.database}"
        scheme, _, path = address.partition(":///")
        if scheme != "sqlite" or not path or path.startswith(("/", ":memory:", "file:")):
            return address
        return f"sqlite:///{self.store.parent / path}"

    def refusal(self) -> str | None:
        """Why nothing can run in this folder: its path has what some library does not take. None if everything can."""
        folder = str(self.store.parent)
        found = [repr(sign) for sign in folder if sign in _REFUSED or sign < " "]
        if not found and _is_text(folder):
            return None
        return (
            f"{folder!r}: expected a folder whose path is UTF-8, without line breaks and {' '.join(_REFUSED)}, "
            f"found {found[0] if found else 'other bytes, or a Python that LC_ALL or PYTHONUTF8 keeps from UTF-8'}.\n"
            "Nothing was written. Rename the folder, or move the checkout to another one, and rerun."
        )


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
