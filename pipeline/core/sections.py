"""What the sections of params.yaml have in common: the base of their models, and the types of their values."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from pipeline.core import urls


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError("the lower bound first")
    return bounds


def sequence(value: Any) -> Any:
    """Accept one hidden layer as a number, which `dvc exp run -S model.hidden_units=512` writes."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _without_credentials(address: str) -> str:
    """Refuse credentials: git, dvc.lock and the MLflow run all keep a copy of params.yaml."""
    if urls.carries_secret(address):
        expected = "an address without credentials (put user and password into ~/.netrc)"
        raise PydanticCustomError("secret", expected, {"found": f"{urls.redacted(address)} with credentials"})
    return address


LIST = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)  # strict models refuse a list
Name = Annotated[str, Field(min_length=1)]
Source = Annotated[Name, AfterValidator(_without_credentials)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Fraction = Annotated[float, Field(ge=0, le=1)]
Bounds = Annotated[tuple[float, float], LIST, AfterValidator(_ordered)]
Seconds = Annotated[float, Field(gt=0, le=86400)]  # at most a day


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
