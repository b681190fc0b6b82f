"""Every file that stages exchange, named once."""

import os
from pathlib import Path

# Identities in the tracking store and timings. Every other output holds the same bytes whenever its inputs do.
TIME_DEPENDENT = ("data/model/run.json", "data/evaluation/latency.json", "data/registration.json")


class Paths:
    """The tree below `root`: by default the current folder, where DVC runs stages, in experiments' copies of the tree too."""

    def __init__(self, root: Path = Path()) -> None:
        self.root = root
        self.params = root / "params.yaml"
        self.versions = root / "requirements" / "versions.yaml"
        self.data = root / "data"

        self.raw = root / "data" / "raw"
        self.manifest = self.raw / "manifest.json"

        self.validation = root / "data" / "validation"
        self.report = self.validation / "report.json"
        self.data_docs = self.validation / "data_docs"

        self.model = root / "data" / "model"
        self.keras = self.model / "model.keras"
        self.summary = self.model / "summary.txt"
        self.history = self.model / "history.csv"
        self.snapshots = self.model / "snapshots.npz"
        self.distorted = self.model / "distorted.npy"
        self.run = self.model / "run.json"
        self.onnx = self.model / "model.onnx"
        self.int8 = self.model / "model.int8.onnx"
        self.parity = self.model / "parity.json"

        self.evaluation = root / "data" / "evaluation"
        self.metrics = self.evaluation / "metrics.json"
        self.latency = self.evaluation / "latency.json"
        self.per_class = self.evaluation / "per_class.csv"
        self.predictions = self.evaluation / "predictions.csv"
        self.plots = self.evaluation / "plots"
        self.card = self.evaluation / "model_card.md"
        self.contract = self.evaluation / "contract.json"

        self.sweep = root / "data" / "sweep"
        self.sweep_record = self.sweep / "sweep.json"
        self.explorer = root / "data" / "explorer"
        self.page = self.explorer / "index.html"

        self.registration = root / "data" / "registration.json"

        # Of commands, which are no stages: what they decided last. Neither git nor DVC keeps these.
        self.promotion = root / "data" / "promotion.json"
        self.drift = root / "data" / "drift"
        self.drift_report = self.drift / "report.json"
        self.drift_distributions = self.drift / "distributions.png"
        self.drift_gallery = self.drift / "gallery.png"
        self.retrain = root / "data" / "retrain"
        self.retrain_summary = self.retrain / "summary.md"
        self.retrain_lock = self.retrain / "lock"

        # The default MLflow store belongs to the repository, for experiments that DVC runs in a copy of the tree too.
        self.store = Path(os.environ.get("DVC_ROOT", root)).absolute() / "mlruns"
        self.database = self.store / "mlflow.db"

    @property
    def tracking_uri(self) -> str:
        """Where runs are kept: MLFLOW_TRACKING_URI, or the SQLite store in mlruns/."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.database}"
