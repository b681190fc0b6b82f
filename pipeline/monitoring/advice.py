"""What the last reports on drift and on live accuracy advise to do, for people."""

from pipeline.core import files
from pipeline.core.paths import Paths
from pipeline.monitoring import live_accuracy


def lines(paths: Paths) -> list[str]:
    """A line for each reason to label images. Reports on another model than the one in the tree do not count."""
    found = []
    model = files.sha256(paths.onnx) if paths.onnx.is_file() else ""
    if paths.live_accuracy_report.is_file():
        report = files.read_json(paths.live_accuracy_report)
        if report["below"] and report["onnx_sha256"] == model:
            found.append(f"{live_accuracy.sentence(report)}. Label more of what is served: {_COMMANDS}")
    if paths.drift_report.is_file():
        report = files.read_json(paths.drift_report)
        if report["drifted"] and report["onnx_sha256"] == model:
            drifted = ", ".join(name for name, check in report["checks"].items() if check["drifted"])
            found.append(
                f"what is served differs from the training data in {drifted}. Labels would tell how bad it is: {_COMMANDS}"
            )
    return found


_COMMANDS = "`make select SOURCE=...`, `make label`, `make retrain`"
