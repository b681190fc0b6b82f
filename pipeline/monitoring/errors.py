"""Errors of selecting, labelling and measuring what is served."""

from pathlib import Path

from pipeline.core.errors import PipelineError


class OtherClassesError(PipelineError):
    """The model knows other classes than params.yaml."""

    def __init__(self, model: str, expected: str, found: str) -> None:
        super().__init__(
            f"{model}: expected the classes of fetch.classes ({expected}), found {found}.\n"
            "Nothing was predicted. Run `make retrain`, or restore fetch.classes in params.yaml."
        )


class NothingToSelectError(PipelineError):
    """Every image of the source is labelled already."""

    def __init__(self, source: str, images: int) -> None:
        super().__init__(
            f"{source}: expected images without a label, found that all {images:,} are labelled, or nearly the same as one "
            "that is.\nThe selection was not changed. Give SOURCE= images that were served since."
        )


class UnfinishedSelectionError(PipelineError):
    """A new selection would discard answers."""

    def __init__(self, folder: Path, answers: int) -> None:
        super().__init__(
            f"{folder}: expected no unfinished selection, found one with {answers:,} answers.\n"
            "It was not changed. Run `make label` and finish it: its labels become a data set. Then select again."
        )


class NoSelectionError(PipelineError):
    """There is nothing to label."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"{folder}: expected images to label, found none.\n"
            "Nothing was served. `make select SOURCE=...` chooses some of what was served."
        )


class BrokenSelectionError(PipelineError):
    """A file of the selection is damaged."""

    def __init__(self, path: Path, expected: str, found: str) -> None:
        super().__init__(
            f"{path}: expected {expected}, found {found}.\n"
            "Nothing was served. answers.jsonl beside it holds the answers; move the folder away and select again."
        )


class BusySelectionError(PipelineError):
    """Another process selects or labels."""

    def __init__(self, lock: Path) -> None:
        super().__init__(
            f"{lock}: expected no other `make label` or `make select` in this checkout, found one that is running.\n"
            "Nothing was changed. End it first."
        )


class NoLabelsError(PipelineError):
    """A data set would have no image."""

    def __init__(self, source: Path, found: str) -> None:
        super().__init__(
            f"{source}: expected at least one labelled image that is new, found {found}.\nNo data set was written."
        )


class CollectedError(PipelineError):
    """A collected data set is not in place, or is damaged."""

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(
            f"{path}: expected the labelled images of this set, found {found}.\n"
            f"Nothing was selected, because images that are labelled would be offered again. Restore it: `dvc pull {path}`."
        )
