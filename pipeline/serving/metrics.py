"""What the server counts, for Prometheus.

With `--workers`, each process writes its counts to files in PROMETHEUS_MULTIPROC_DIR, and any of them shows the sum. The
library decides that when it is imported, so it is imported here only.
"""

import os
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from pipeline.inference.onnx_model import Probabilities
from pipeline.serving.served_model import ServedModel
from pipeline.serving.workers import SHARED

MEDIA_TYPE = CONTENT_TYPE_LATEST.encode()

disable_created_metrics()  # type: ignore[no-untyped-call]  # a line for each counter that few people want

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_BATCHES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
_CONFIDENCES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)


class Metrics:
    """The counters of one server; `page` is their text."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        every: Any = {"registry": self._registry}
        self._requests = Counter("serve_requests", "Answered requests.", ["route", "status"], **every)
        self._seconds = Histogram(
            "serve_request_seconds", "Seconds from a request's headers to its answer.", ["route"], buckets=_SECONDS, **every
        )
        self._refusals = Counter("serve_refusals", "Refused requests, by what was wrong.", ["reason"], **every)
        self._images = Counter("serve_images", "Images predicted.", **every)
        self._batches = Histogram("serve_batch_images", "Images in a request.", buckets=_BATCHES, **every)
        self._confidence = Histogram("serve_confidence", "Largest probability of an image.", buckets=_CONFIDENCES, **every)
        self._classes = Counter("serve_predictions", "Images by predicted class.", ["label"], **every)
        self._reloads = Counter("serve_reloads", "New versions: taken over, refused; looks that failed.", ["result"], **every)
        self._captured = Counter("serve_captured_images", "Images kept by capture.", **every)
        self._model = Gauge(
            *("serve_model_info", "1 for the version that is served."),
            labelnames=["name", "version", "sha256"],
            multiprocess_mode="livemax",
            **every,
        )
        if SHARED not in os.environ:
            ProcessCollector(registry=self._registry)
        self._counter = lru_cache(maxsize=1024)(self._requests.labels)
        self._class = lru_cache(maxsize=256)(self._classes.labels)
        self._timer = lru_cache(maxsize=64)(self._seconds.labels)

    def answered(self, route: str, status: int, seconds: float) -> None:
        self._counter(route, status).inc()
        self._timer(route).observe(seconds)

    def refused(self, reason: str) -> None:
        self._refusals.labels(reason).inc()

    def predicted(self, probabilities: Probabilities, names: list[str]) -> None:
        self._images.inc(len(probabilities))
        self._batches.observe(len(probabilities))
        chosen = probabilities.argmax(axis=1)
        if len(chosen) == 1:  # without the arrays of many, which take longer than the prediction
            self._confidence.observe(float(probabilities[0, chosen[0]]))
            self._class(names[chosen[0]]).inc()
            return
        observe_all(self._confidence, probabilities.max(axis=1))
        counts = np.bincount(chosen, minlength=len(names))
        for index in np.flatnonzero(counts):
            self._class(names[index]).inc(int(counts[index]))

    def reloaded(self, result: str) -> None:
        self._reloads.labels(result).inc()

    def captured(self, images: int) -> None:
        self._captured.inc(images)

    def serves(self, served: ServedModel, before: ServedModel | None = None) -> None:
        if before is not None:
            self._model.labels(before.name, before.version, before.sha256).set(0)
        self._model.labels(served.name, served.version, served.sha256).set(1)

    def page(self) -> bytes:
        registry = self._registry
        if SHARED in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def observe_all(histogram: Histogram, values: npt.NDArray[np.float32]) -> None:
    """Observe many values at once. `Histogram.observe`, the public way, takes a microsecond for each."""
    buckets = histogram._buckets
    counts = np.bincount(np.searchsorted(np.array(histogram._upper_bounds), values), minlength=len(buckets))
    for index in np.flatnonzero(counts):
        buckets[index].inc(int(counts[index]))
    histogram._sum.inc(float(values.sum(dtype=np.float64)))


def forget(pid: int) -> None:
    """Remove what an ended worker said about itself; its counts remain in the sums."""
    mark_process_dead(pid)  # type: ignore[no-untyped-call]
