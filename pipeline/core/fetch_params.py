"""Section `fetch` of params.yaml: where the data come from, and how image files become arrays."""

import unicodedata
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from pipeline.core.sections import LIST, Fraction, Name, Seconds, Section, Sha256, Source, Text

Side = Annotated[int, Field(ge=1, le=4096)]


class FileParams(Section):
    """An IDX file: its name at the sources, and the SHA-256 of its decompressed content (null: accept any, print its hash)."""

    name: Name
    sha256: Sha256 | None


class FilesParams(Section):
    train_images: FileParams
    train_labels: FileParams
    test_images: FileParams
    test_labels: FileParams


class ExtraParams(Section):
    """An extra data set: a file or folder of any layout, or a folder with two IDX files named `images` and `labels`.

    A `recent` set comes from what is served today. Its test split, or `test_share` of it, is never trained on.
    """

    name: Annotated[str, Field(pattern="^[A-Za-z0-9._-]{1,80}$")]
    source: Source
    images: Name | None = None
    labels: Name | None = None
    sha256: Sha256 | None = None
    kind: Literal["same", "recent"] = "same"
    weight: Annotated[int, Field(ge=1, le=1000)] | Literal["auto"] | None = None
    test_share: Fraction | None = None

    @property
    def recent(self) -> bool:
        return self.kind == "recent"

    @property
    def chosen_weight(self) -> int | Literal["auto"]:
        """How often each image counts in training. By default 1, in recent sets `auto`: chosen on validation images."""
        return self.weight or ("auto" if self.recent else 1)

    @property
    def npz(self) -> str | None:
        """The file name if `source` is an .npz file; None otherwise."""
        path = urlsplit(self.source).path if "://" in self.source else self.source
        name = path.rpartition("/")[2]
        return name if name.lower().endswith(".npz") else None

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        given = [key for key in ("images", "labels") if getattr(self, key) is not None]
        found = f"{' and '.join(given)} for {self.name}"
        if self.npz is not None and given:
            raise PydanticCustomError("ambiguous", "no images and labels beside an .npz file", {"found": found})
        if len(given) == 1:
            expected = "images and labels, which name two IDX files, or neither"
            raise PydanticCustomError("incomplete", expected, {"found": found})
        return self

    @model_validator(mode="after")
    def _recent_only(self) -> Self:
        if not self.recent and (self.weight == "auto" or self.test_share is not None):
            key = "test_share" if self.weight != "auto" else "weight: auto"
            raise PydanticCustomError("kind", "kind: recent beside test_share and weight: auto", {"found": f"{key} alone"})
        if self.name == "recent":
            raise PydanticCustomError("reserved", "another name: all recent sets together are called so", {"found": "recent"})
        return self


def _unique_names(extra: tuple[ExtraParams, ...]) -> tuple[ExtraParams, ...]:
    names = [each.name.casefold() for each in extra]
    if repeated := [each.name for each in extra if names.count(each.name.casefold()) > 1]:
        raise PydanticCustomError("repeated", "unique names", {"found": f"{repeated[0]} twice"})
    return extra


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse two classes of one name, also if only their Unicode forms differ: JSON files and tables would lose one."""
    forms = [unicodedata.normalize("NFC", name) for name in names]
    if repeated := [name for name in dict.fromkeys(forms) if forms.count(name) > 1]:
        raise PydanticCustomError(
            "repeated", "names that differ", {"found": ", ".join(f"{name!r} twice" for name in repeated)}
        )
    return names


class FetchParams(Section):
    dataset: Text
    licence: Text
    classes: Annotated[tuple[Text, ...], LIST, Field(min_length=2, max_length=256), AfterValidator(_distinct)]
    sources: Annotated[tuple[Source, ...], LIST, Field(min_length=1)]
    timeout: Seconds
    deadline: Seconds
    max_bytes: Annotated[int, Field(gt=0)]
    files: FilesParams
    extra: Annotated[tuple[ExtraParams, ...], LIST, AfterValidator(_unique_names)] = ()
    size: Annotated[tuple[Side, Side], LIST] | None = None
    invert: bool = False
    white: Annotated[float, Field(gt=0)] = 255
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.15
    max_unreadable: Fraction = 0
