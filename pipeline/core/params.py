"""Load params.yaml into frozen models, one per section. Unknown keys, wrong types and values out of range raise an error."""

import math
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError
from ruamel.yaml import YAML

from pipeline.core import params_errors, urls
from pipeline.core.errors import InvalidParamsError
from pipeline.core.fetch_params import FetchParams
from pipeline.core.sections import LIST, Bounds, Fraction, ModelName, Section, Text, sequence


class RowsParams(Section):
    train: Bounds
    test: Bounds


class DivergenceParams(Section):
    """Bounds for the distance of each extra set from the base training split."""

    class_divergence: Annotated[float, Field(gt=0)]
    intensity_divergence: Annotated[float, Field(gt=0)]


class RecentParams(Section):
    """Bounds for recent data sets, whose distributions may differ from the base's."""

    label_issues: Fraction
    contradicted: Fraction


class ValidateParams(Section):
    rows: RowsParams
    class_share: Bounds
    class_divergence: Annotated[float, Field(gt=0)]
    pixel_minimum: Bounds
    pixel_maximum: Bounds
    ink_fraction: Bounds
    mean_intensity: Bounds
    duplicates: Fraction
    near_duplicate_distance: Annotated[float, Field(ge=0, le=1.5)]
    conflicting_labels: Fraction
    leaked: Fraction = 0
    label_issues: Fraction
    extra: DivergenceParams
    recent: RecentParams = RecentParams(label_issues=0.03, contradicted=0.08)


Units = Annotated[int, Field(ge=1)]


class ModelParams(Section):
    hidden_units: Annotated[
        tuple[Units, ...], BeforeValidator(sequence, json_schema_input_type=Units | tuple[Units, ...]), Field(min_length=1)
    ]
    activation: Literal["elu", "leaky_relu", "relu", "selu", "sigmoid", "silu", "softplus", "tanh"]


class AugmentationParams(Section):
    rotation: Annotated[float, Field(ge=0, le=180)]
    scale: Annotated[float, Field(ge=0, lt=1)]
    shear: Annotated[float, Field(ge=0, lt=1)]
    shift: Annotated[float, Field(ge=0)]
    elastic: Annotated[float, Field(ge=0)]
    elastic_grid: Annotated[int, Field(ge=2)]

    @property
    def none(self) -> bool:
        """Whether augmentation is off."""
        return not any((self.rotation, self.scale, self.shear, self.shift, self.elastic))

    def times(self, strength: float) -> "AugmentationParams":
        """The same with `strength` times the values, at most half a turn and nine tenths of the size."""
        if strength == 1:
            return self
        most = {"rotation": 180, "scale": 0.9, "shear": 0.9, "shift": math.inf, "elastic": math.inf}
        return self.model_copy(update={key: min(bound, strength * getattr(self, key)) for key, bound in most.items()})


class TrainParams(Section):
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    optimizer: Literal["adam", "adamw", "nadam", "rmsprop", "sgd"]
    learning_rate: Annotated[float, Field(gt=0)]
    schedule: Literal["constant", "cosine"]
    warmup_epochs: Annotated[float, Field(ge=0)]
    validation_split: Annotated[float, Field(ge=0, lt=1)]
    ema_momentum: Annotated[float, Field(ge=0, lt=1)]
    early_stopping: Annotated[int, Field(ge=0)]
    threads: Annotated[int, Field(ge=1, le=256)]
    augmentation: AugmentationParams


class ExportParams(Section):
    opset: Annotated[int, Field(ge=13, le=18)]
    tolerance: Annotated[float, Field(gt=0, le=1e-5)]
    int8: Literal["required", "optional", "off"] = "optional"
    int8_agreement: Fraction


class EvaluateParams(Section):
    calibration_bins: Annotated[int, Field(ge=1)]
    shift: Annotated[int, Field(ge=1)]
    rotation: Annotated[float, Field(gt=0, le=180)]
    noise: Annotated[float, Field(gt=0)]
    gallery: Annotated[int, Field(ge=1)]
    recent_sets: Annotated[int, Field(ge=1)] = 4


class ExplainParams(Section):
    samples: Annotated[int, Field(ge=1, le=20)]
    mistakes: Annotated[int, Field(ge=1, le=100)]
    step: Annotated[float, Field(gt=0)]


class MinimumParams(Section):
    accuracy: Fraction
    worst_recall: Fraction
    shifted_accuracy: Fraction
    int8_agreement: Fraction


class MaximumParams(Section):
    calibration_error: Fraction
    bytes: Annotated[int, Field(gt=0)]
    latency_microseconds: Annotated[float, Field(gt=0)]


class PromoteParams(Section):
    require: Literal["non_inferior", "superior"]
    alpha: Annotated[float, Field(gt=0, lt=1)]
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.005
    champion_accuracy: Fraction
    minimum: MinimumParams
    maximum: MaximumParams


class RetrainParams(Section):
    max_age_days: Annotated[float, Field(gt=0)]


class DriftParams(Section):
    alpha: Annotated[float, Field(gt=0, lt=1)]
    min_effect_size: Fraction
    min_images: Annotated[int, Field(ge=1)]
    gallery: Annotated[int, Field(ge=1)]


class MonitorParams(Section):
    live_accuracy: Fraction


class CaptureParams(Section):
    share: Fraction = 0.05
    per_minute: Annotated[int, Field(ge=1)] = 600
    most_bytes: Annotated[int, Field(gt=0)] = 100_000_000
    most_days: Annotated[float, Field(gt=0)] = 30


Layout = Literal["mnist", "as_is"]


class PredictParams(Section):
    layout: Layout


class ServeParams(Section):
    """The defaults hold where a model is served outside a checkout."""

    max_bytes: Annotated[int, Field(gt=0)] = 10_000_000
    capture: CaptureParams = CaptureParams()


class RangeParams(Section):
    """A number from `low` to `high`, both included; sampled on a log scale if `log`."""

    low: float
    high: float
    log: bool = False


class ChoicesParams(Section):
    choices: Annotated[tuple[Any, ...], LIST, Field(min_length=1)]


class SweepParams(Section):
    """The keys of `search_space` are dotted names in the sections model and train."""

    trials: Annotated[int, Field(ge=1)]
    grace_period: Annotated[int, Field(ge=1)]
    reduction_factor: Annotated[float, Field(gt=1)]
    max_failures: Annotated[int, Field(ge=0)]
    cpus_per_trial: Annotated[float, Field(gt=0)]
    search_space: Annotated[dict[str, RangeParams | ChoicesParams], Field(min_length=1)]


class TrackingParams(Section):
    experiment: Text
    model: ModelName


class Params(Section):
    """All of params.yaml."""

    fetch: FetchParams
    validate_: Annotated[ValidateParams, Field(alias="validate")]  # `validate` is a method of pydantic's models
    model: ModelParams
    train: TrainParams
    export: ExportParams
    evaluate: EvaluateParams
    explain: ExplainParams
    promote: PromoteParams
    retrain: RetrainParams
    drift: DriftParams
    monitor: MonitorParams = MonitorParams(live_accuracy=0)
    predict: PredictParams
    serve: ServeParams
    sweep: SweepParams
    tracking: TrackingParams


def load(path: Path) -> Params:
    """Read params.yaml as DVC does (YAML 1.2: `1e-3` is a number).

    Raises:
        InvalidParamsError: the file is missing, is not YAML, or has an unknown key or a wrong value; it lists all problems.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InvalidParamsError(path, ["expected this file in the current folder, found none"]) from error
    return check(parse(content, path), path)


def parse(content: bytes, path: Path) -> Any:
    """Parse YAML, or raise InvalidParamsError, which names `path`."""
    try:
        return _with_written_names(YAML(typ="safe", pure=True).load(content), content)
    except Exception as error:  # invalid dates, numbers, tags and deep nesting raise many types of errors
        found = urls.redacted_text(str(error)).replace('in "<byte string>", ', "in ") or type(error).__name__
        raise InvalidParamsError(path, [f"expected YAML, found {shorten(found, 300, placeholder=' …')}"]) from error


def _with_written_names(parsed: Any, content: bytes) -> Any:
    """Take names of classes as they are written: YAML reads an unquoted 007 as 7, and true as a truth value."""
    fetch = parsed.get("fetch") if isinstance(parsed, dict) else None
    classes = fetch.get("classes") if isinstance(fetch, dict) else None
    if isinstance(fetch, dict) and isinstance(classes, list) and not all(isinstance(name, str) for name in classes):
        fetch["classes"] = YAML(typ="base", pure=True).load(content)["fetch"]["classes"]
    return parsed


def check(content: Any, path: Path) -> Params:
    """Validate parsed YAML, or raise InvalidParamsError, which names `path` and lists all problems."""
    if not isinstance(content, dict):
        raise InvalidParamsError(path, [f"expected sections, found {params_errors.shown(content)}"])
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise InvalidParamsError(path, params_errors.describe(error, Params)) from error
