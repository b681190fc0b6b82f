"""params.yaml as frozen models, one section a stage. Unknown keys, wrong types and values out of range are refused."""

from itertools import chain
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node

from pipeline.core import params_errors, urls
from pipeline.core.errors import InvalidParamsError

_MOST_BYTES = 100_000
_MOST_VALUES = 10_000  # aliases followed: ten lines of YAML can stand for more values than any memory holds


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError("the lower bound first")
    return bounds


def _pair(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _sequence(value: Any) -> Any:
    """One hidden layer may be written as a number, as `dvc exp run -S model.hidden_units=512` does."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _without_secret(address: str) -> str:
    """params.yaml is committed, DVC copies it into dvc.lock, and MLflow keeps it with the run."""
    if urls.carries_secret(address):
        expected = "an address without credentials (a user and a password go into ~/.netrc, which is read)"
        raise PydanticCustomError("secret", expected, {"found": f"{urls.redacted(address)} with some"})
    return address


Name = Annotated[str, Field(min_length=1)]
Source = Annotated[Name, AfterValidator(_without_secret)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Fraction = Annotated[float, Field(ge=0, le=1)]
Bounds = Annotated[tuple[float, float], BeforeValidator(_pair), AfterValidator(_ordered)]
Seconds = Annotated[float, Field(gt=0, le=86400)]  # a day: threads cannot wait for any length of time


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class FileParams(Section):
    """An IDX file: its name at the sources, and what it must decompress to (null takes what comes and reports its hash)."""

    name: Name
    sha256: Sha256 | None


class FilesParams(Section):
    train_images: FileParams
    train_labels: FileParams
    test_images: FileParams
    test_labels: FileParams


class ExtraParams(Section):
    """Further training data: an .npz file, or two IDX files named `images` and `labels` in a folder."""

    name: Annotated[str, Field(pattern="^[A-Za-z0-9._-]{1,80}$")]
    source: Source
    images: Name | None = None
    labels: Name | None = None
    sha256: Sha256 | None = None

    @property
    def npz(self) -> str | None:
        """The name of the .npz file that `source` is, in a folder or at a site; None if it is a folder."""
        path = urlsplit(self.source).path if "://" in self.source else self.source
        name = path.rpartition("/")[2]
        return name if name.lower().endswith(".npz") else None


def _complete(extra: ExtraParams) -> ExtraParams:
    named = [key for key in ("images", "labels") if getattr(extra, key) is not None]
    found = f"{' and '.join(named) or 'neither'} for {extra.name}"
    if extra.npz is None and len(named) < 2:
        expected = "an .npz file as source, or images and labels to name two IDX files in it"
        raise PydanticCustomError("incomplete", expected, {"found": found})
    if extra.npz is not None and named:
        raise PydanticCustomError("ambiguous", "no images and labels beside an .npz file", {"found": found})
    return extra


def _named_apart(extra: tuple[ExtraParams, ...]) -> tuple[ExtraParams, ...]:
    names = [each.name.casefold() for each in extra]
    for each in extra:
        if names.count(each.name.casefold()) > 1:
            raise PydanticCustomError("repeated", "a name of its own for each", {"found": f"{each.name} twice"})
    return extra


Extra = Annotated[ExtraParams, AfterValidator(_complete)]


class FetchParams(Section):
    dataset: Name
    licence: Name
    classes: Annotated[tuple[Name, ...], BeforeValidator(_pair), Field(min_length=2, max_length=256)]
    sources: Annotated[tuple[Source, ...], BeforeValidator(_pair), Field(min_length=1)]
    timeout: Seconds
    deadline: Seconds
    max_bytes: Annotated[int, Field(gt=0)]
    files: FilesParams
    extra: Annotated[tuple[Extra, ...], BeforeValidator(_pair), AfterValidator(_named_apart)] = ()


class RowsParams(Section):
    train: Bounds
    test: Bounds


class DivergenceParams(Section):
    """Of each further set from the training split without them."""

    class_divergence: Annotated[float, Field(gt=0)]
    intensity_divergence: Annotated[float, Field(gt=0)]


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
    label_issues: Fraction
    extra: DivergenceParams


class ModelParams(Section):
    hidden_units: Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_sequence), Field(min_length=1)]
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
        """Whether images stay as they are."""
        return not any((self.rotation, self.scale, self.shear, self.shift, self.elastic))


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
    augmentation: AugmentationParams


class ExportParams(Section):
    opset: Annotated[int, Field(ge=13, le=18)]
    tolerance: Annotated[float, Field(gt=0, le=1e-5)]
    int8_agreement: Fraction


class EvaluateParams(Section):
    calibration_bins: Annotated[int, Field(ge=1)]
    shift: Annotated[int, Field(ge=1)]
    rotation: Annotated[float, Field(gt=0, le=180)]
    noise: Annotated[float, Field(gt=0)]
    gallery: Annotated[int, Field(ge=1)]


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


class ServeParams(Section):
    max_bytes: Annotated[int, Field(gt=0)]


class RangeParams(Section):
    """Numbers between two, both possible; with `log` evenly by their logarithm."""

    low: float
    high: float
    log: bool = False


class ChoicesParams(Section):
    choices: Annotated[tuple[Any, ...], BeforeValidator(_pair), Field(min_length=1)]


class SweepParams(Section):
    """`search_space` is by dotted names of the sections model and train."""

    trials: Annotated[int, Field(ge=1)]
    grace_period: Annotated[int, Field(ge=1)]
    reduction_factor: Annotated[float, Field(gt=1)]
    max_failures: Annotated[int, Field(ge=0)]
    cpus_per_trial: Annotated[float, Field(gt=0)]
    search_space: Annotated[dict[str, RangeParams | ChoicesParams], Field(min_length=1)]


class TrackingParams(Section):
    experiment: Name
    model: Name


class Params(Section):
    """The whole of params.yaml."""

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
    serve: ServeParams
    sweep: SweepParams
    tracking: TrackingParams


def load(path: Path) -> Params:
    """Read params.yaml as DVC does (YAML 1.2: `1e-3` is a number).

    Raises:
        InvalidParamsError: the file is missing, is not YAML, or holds what the models above refuse; it names every fault.
    """
    try:
        with path.open("rb") as file:
            written = file.read(_MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise InvalidParamsError(path, ["expected this file in the current folder, found none"]) from error
    return check(parse(written, path), path)


def parse(written: bytes, path: Path) -> Any:
    """What the YAML `written` says; `path` is where it stands.

    Raises:
        InvalidParamsError: it is not YAML, or too much of it.
    """
    if len(written) > _MOST_BYTES:
        raise InvalidParamsError(path, [f"expected at most {_MOST_BYTES:,} bytes, found more"])
    yaml = YAML(typ="safe", pure=True)
    try:
        node = yaml.compose(written)
        count = _count(node, {})
        content = None if node is None or count > _MOST_VALUES else yaml.constructor.construct_document(node)
    except Exception as error:  # damaged dates, numbers and tags, and nesting without end, fail in as many ways as Python has
        found = urls.redacted_text(str(error)).replace('in "<byte string>", ', "in ") or type(error).__name__
        raise InvalidParamsError(path, [f"expected YAML, found {shorten(found, 300, placeholder=' …')}"]) from error
    if count > _MOST_VALUES:
        raise InvalidParamsError(path, [f"expected at most {_MOST_VALUES:,} values, aliases followed, found more"])
    return content


def _count(node: Node | None, known: dict[int, int]) -> int:
    """How many values `node` stands for, where each alias is what it names; one that holds itself is too many."""
    if not isinstance(node, CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = _MOST_VALUES
        parts = chain.from_iterable(node.value) if isinstance(node, MappingNode) else node.value
        known[id(node)] = 1 + sum(_count(part, known) for part in parts)
    return known[id(node)]


def check(content: Any, path: Path) -> Params:
    """The parameters that `content` of the YAML file at `path` gives.

    Raises:
        InvalidParamsError: it holds what the models above refuse; it names every fault.
    """
    if not isinstance(content, dict):
        raise InvalidParamsError(path, [f"expected sections, found {params_errors.shown(content)}"])
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise InvalidParamsError(path, [params_errors.describe(fault, Params) for fault in error.errors()]) from error
