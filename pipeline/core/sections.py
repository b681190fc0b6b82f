"""What the sections of params.yaml have in common: the base of their models, and the types of their values."""

import re
import unicodedata
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


def _in_one_line(text: str) -> str:
    if text.strip() != text or any(unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") for sign in text):
        raise PydanticCustomError("unprintable", "text in one line, without spaces around it", {})
    return text


def _model_name(name: str) -> str:
    """What MLflow takes as the name of a model, GTO in a git tag, and git in the name of a tag."""
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,98}[A-Za-z0-9])?", name):
        expected = "at most 100 letters, digits, - and _, the first and last a letter or digit (it becomes part of a git tag)"
        raise PydanticCustomError("model_name", expected, {})
    return name


LIST = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)  # strict models refuse a list
Name = Annotated[str, Field(min_length=1)]
Text = Annotated[Name, AfterValidator(_in_one_line)]  # that people read, in tables and pictures
ModelName = Annotated[Name, AfterValidator(_model_name)]
Source = Annotated[Name, AfterValidator(_without_credentials)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Fraction = Annotated[float, Field(ge=0, le=1)]
Bounds = Annotated[tuple[float, float], LIST, AfterValidator(_ordered)]
Seconds = Annotated[float, Field(gt=0, le=86400)]  # at most a day


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
