"""What all requests share: the model that is served now, the counters, the capture, and the bounds on what is asked."""

from typing import NamedTuple

from pipeline.core.params import Layout
from pipeline.data.idx import Pixels
from pipeline.inference.onnx_model import Probabilities
from pipeline.serving.access import Access
from pipeline.serving.capture import Capture
from pipeline.serving.metrics import Metrics
from pipeline.serving.served_model import ServedModel


class Limits(NamedTuple):
    """Bounds on what a request may take."""

    body_bytes: int  # of one request
    held_bytes: int = 256_000_000  # of all requests that are being received
    body_seconds: float = 30  # to receive a body


class Service:
    """The state of a server process. Everything but `take_over` is called by the event loop or for a request of its own."""

    def __init__(
        self,
        served: ServedModel,
        limits: Limits,
        access: Access,
        metrics: Metrics,
        capture: Capture | None = None,
        layout: Layout | None = None,
        unstated: Layout | None = None,
    ) -> None:
        """Serve `served`. Pictures get the `layout`; if it is None, that of the contract; if that states none, `unstated`."""
        self.served, self._layout, self._unstated = served, layout, unstated
        self.limits, self.access, self.metrics, self.capture = limits, access, metrics, capture
        self.held = 0
        metrics.serves(served)

    def layout(self, served: ServedModel) -> Layout | None:
        return self._layout or served.layout or self._unstated

    def take_over(self, served: ServedModel) -> None:
        """Answer with another model from the next request on. Requests under way keep the one that they began with."""
        before, self.served = self.served, served
        self.metrics.serves(served, before)

    def predict(self, served: ServedModel, images: Pixels) -> Probabilities:
        probabilities = served.model.predict(images)
        self.metrics.predicted(probabilities, served.model.names)
        if self.capture is not None:
            self.metrics.captured(self.capture.offer(images, probabilities, served.version))
        return probabilities
