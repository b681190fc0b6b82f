"""The champion's accuracy on what is served today: on the labelled random part of the newest recent data set.

The random part is a random sample of what was served and nothing is trained on it, so the accuracy on it has no bias.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np

from pipeline.core import console, files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data.datasets import Split
from pipeline.monitoring import champion, collected

_CONFIDENCE = 0.95


class Share(NamedTuple):
    """How many images there are, how many of them are right, and the exact 95 % interval of the accuracy."""

    images: int
    correct: int
    interval: tuple[float, float]

    @property
    def accuracy(self) -> float:
        return self.correct / self.images


def share(correct: int, images: int) -> Share:
    """The accuracy on `images` > 0 images. The interval is exact: Clopper and Pearson, Biometrika 26, 1934."""
    from scipy.stats import binomtest  # takes half a second to import

    low, high = binomtest(correct, images).proportion_ci(_CONFIDENCE, "exact")
    return Share(images, correct, (float(low), float(high)))


def content(name: str, split: Split, predicted: Any, classes: Sequence[str], minimum: float) -> dict[str, Any]:
    """The report on a set: its accuracy, overall and by class, and whether it is below `minimum` with confidence.

    Args:
        predicted: the predicted label of each image, `(n,)`.
    """
    right = predicted == split.labels
    overall = share(int(right.sum()), len(right))
    per_class = {}
    for label, class_name in enumerate(classes):
        own = right[split.labels == label]
        if len(own):
            per_class[class_name] = _as_json(share(int(own.sum()), len(own)))
    return {
        "set": name,
        **_as_json(overall),
        "minimum": minimum,
        "below": overall.interval[1] < minimum,
        "per_class": per_class,
    }


def _as_json(found: Share) -> dict[str, Any]:
    return {"images": found.images, "correct": found.correct, "accuracy": found.accuracy, "interval": list(found.interval)}


def sentence(report: Mapping[str, Any]) -> str:
    """The accuracy in words, with the verdict."""
    low, high = report["interval"]
    found = f"{report['accuracy']:.1%} [{low:.1%}, {high:.1%}] of {report['images']:,} images of {report['set']} are right"
    minimum = f"{report['minimum']:.1%} (monitor.live_accuracy)"
    return f"{found}: {'surely below' if report['below'] else 'not surely below'} {minimum}"


def measure(params: Params, paths: Paths) -> dict[str, Any] | None:
    """Measure the champion, and write data/live_accuracy/report.json; None if no recent set has a random part.

    Raises:
        CollectedError: the newest set is not in place. Other errors are those of `champion.find`.
    """
    newest = collected.newest_random_part(params, paths)
    if newest is None:
        return None
    name, split = newest
    found = champion.find(params, paths)
    predicted = np.argmax(found.model.predict(split.images), axis=1)
    report = {
        "model": found.name,
        "onnx_sha256": found.sha256,
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        **content(name, split, predicted, params.fetch.classes, params.monitor.live_accuracy),
    }
    files.write_json(paths.live_accuracy_report, report)
    return report


def log(report: Mapping[str, Any], params: Params, paths: Paths) -> None:
    """Log the report as a run named `live-accuracy` to MLflow."""
    from pipeline.tracking import run_content, runs

    low, high = report["interval"]
    metrics = {"live/accuracy": report["accuracy"], "live/accuracy_low": low, "live/accuracy_high": high}
    tags = {"set": report["set"], "below": str(report["below"]).lower(), run_content.ONNX_SHA256: report["onnx_sha256"]}
    runs.log_report("live-accuracy", {**metrics, "live/images": report["images"]}, tags, paths.live_accuracy, params, paths)


def reason_to_retrain(params: Params, paths: Paths) -> str | None:
    """Measure, print and log the champion's accuracy on today's images. Return why to retrain if it is surely too low."""
    report = measure(params, paths)
    if report is None:
        return None
    console.echo("live", f"{report['model']}: {sentence(report)}")
    log(report, params, paths)
    return sentence(report) if report["below"] else None
