"""The model that monitoring speaks of: the champion of the registry or, before there is one, the model of this tree."""

from typing import NamedTuple

from pipeline.core import files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.inference.onnx_model import OnnxModel
from pipeline.monitoring.errors import OtherClassesError


class Champion(NamedTuple):
    """An open model, its name for people, and the SHA-256 of its file."""

    model: OnnxModel
    name: str
    sha256: str


def find(params: Params, paths: Paths) -> Champion:
    """Open the champion, or data/model/model.onnx where the registry has none.

    What a server kept beside captured images (probabilities, version) may be of an earlier champion. The questions are where
    today's is unsure and how often it is right, so it predicts all images again.

    Raises:
        TrackingError: the store does not answer.
        MissingInputError, UnusableInputError: there is no model, or a damaged one.
        OtherClassesError: the model has other classes than params.yaml.
    """
    from pipeline.serving import champion_watch
    from pipeline.tracking import registry  # importing MLflow takes seconds, so parameters are checked first
    from pipeline.tracking.connection import connected

    name = params.tracking.model
    with connected(params, paths):
        version = registry.aliased(name, registry.CHAMPION)
        served = champion_watch.fetch(version) if version else None
    if served is None:
        found = Champion(OnnxModel(paths.onnx), f"{paths.onnx} (the registry has no champion)", files.sha256(paths.onnx))
    else:
        found = Champion(served.model, f"{name} version {served.version} (champion)", served.sha256)
    if found.model.names != list(params.fetch.classes):
        expected, names = (", ".join(each) for each in (params.fetch.classes, found.model.names))
        raise OtherClassesError(found.name, expected, names)
    return found
