"""The answers of people who label images: a file to which each answer is appended, and flushed to disk, as it is given.

One JSON object a line: `id` of the image, `kind`, `label` (of kind `label`) and `time`. Kinds:

- `label`: the image is of the class `label`.
- `other`: it is of none of the classes.
- `skip`: no answer; a later one counts.
- `undo`: all answers to this image so far are withdrawn.

Two different answers to one image, neither withdrawn, contradict each other: the image is kept out until one is withdrawn.
"""

import errno
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.monitoring.errors import BrokenSelectionError

LABEL, OTHER, SKIP, UNDO = "label", "other", "skip", "undo"
KINDS = (LABEL, OTHER, SKIP, UNDO)


class Answer(NamedTuple):
    """What somebody said of an image: its kind, and the name of the class for a label."""

    kind: str
    label: str | None = None


class Answers:
    """All answers so far; `add` keeps another one."""

    def __init__(self, path: Path, ids: Sequence[str], classes: Sequence[str]) -> None:
        """Read the answers in `path`, which may be missing. A last line that a killed process left incomplete is removed.

        Raises:
            BrokenSelectionError: a line is no answer to one of `ids`.
        """
        self._path, self._classes = path, set(classes)
        self._given: dict[str, list[Answer]] = {id_: [] for id_ in ids}
        for number, line in enumerate(_complete_lines(path), start=1):
            try:
                content = json.loads(line)
                self._take(content["id"], Answer(content["kind"], content.get("label")))
            except (ValueError, KeyError, TypeError) as error:
                raise BrokenSelectionError(
                    path, "answers to the selected images", f"something else in line {number}"
                ) from error

    def add(self, id_: str, answer: Answer) -> None:
        """Keep an answer: when this returns, it is on the disk.

        Raises:
            ValueError: there is no such image, kind or class.
            OSError: the disk is full, or the file cannot be written. It is as before.
        """
        self.check(id_, answer)
        line = {"id": id_, **answer._asdict(), "time": datetime.now(UTC).isoformat(timespec="seconds")}
        _append(self._path, json.dumps(line, ensure_ascii=False).encode() + b"\n")
        self._take(id_, answer)

    def check(self, id_: str, answer: Answer) -> None:
        """Raise ValueError unless the image, the kind and the class exist."""
        if id_ not in self._given:
            raise ValueError(f"expected the id of a selected image, found {id_!r}")
        if answer.kind not in KINDS:
            raise ValueError(f"expected a kind of {', '.join(KINDS)}, found {answer.kind!r}")
        if (answer.label in self._classes) != (answer.kind == LABEL) or (answer.kind != LABEL and answer.label is not None):
            raise ValueError(f"expected the name of a class for the kind label alone, found {answer.label!r}")

    def _take(self, id_: str, answer: Answer) -> None:
        self.check(id_, answer)
        given = self._given[id_]
        if answer.kind == UNDO:
            given.clear()
        elif answer.kind == SKIP:
            if not given:
                given.append(answer)
        else:
            given[:] = [*(each for each in given if each.kind != SKIP and each != answer), answer]

    def of(self, id_: str) -> tuple[Answer, ...]:
        """The different answers to an image: none, one, or several that contradict each other."""
        return tuple(self._given[id_])

    def labels(self) -> dict[str, str]:
        """The class of each image that has one label and no other answer."""
        return {id_: str(given[0].label) for id_, given in self._given.items() if [each.kind for each in given] == [LABEL]}

    def others(self) -> list[str]:
        """The images that are of none of the classes."""
        return [id_ for id_, given in self._given.items() if [each.kind for each in given] == [OTHER]]

    def conflicts(self) -> dict[str, list[str]]:
        """The images with different answers, and these: names of classes, or `none of the classes`."""
        given = {id_: [each.label or "none of the classes" for each in answers] for id_, answers in self._given.items()}
        return {id_: names for id_, names in given.items() if len(names) > 1}

    def progress(self) -> dict[str, Any]:
        """How many images have which answer."""
        conflicts, skipped = self.conflicts(), sum(given == [Answer(SKIP)] for given in self._given.values())
        left = sum(not given for given in self._given.values())
        return {
            "images": len(self._given),
            "labelled": len(self.labels()),
            "other": len(self.others()),
            "skipped": skipped,
            "left": left,
            "conflicts": [{"id": id_, "answers": answers} for id_, answers in conflicts.items()],
        }


def count(path: Path) -> int:
    """How many complete answers a file has; 0 if there is none."""
    return len(_complete_lines(path))


def _append(path: Path, line: bytes) -> None:
    """Write a line to the end of the file and flush it to disk; leave nothing of it if that fails."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        before = os.fstat(descriptor).st_size
        try:
            if os.write(descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, before)
            raise
    finally:
        os.close(descriptor)


def _complete_lines(path: Path) -> list[bytes]:
    """The lines that end in a line break. What follows the last one is cut off, so that the next answer begins a line."""
    if not path.is_file():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    return whole.splitlines()
