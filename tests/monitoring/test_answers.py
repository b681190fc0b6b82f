"""The file of answers: nothing is lost, contradictions are kept out, and a damaged line is not taken for an answer."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.monitoring.answers import LABEL, OTHER, SKIP, UNDO, Answer, Answers
from pipeline.monitoring.errors import BrokenSelectionError
from tests.imports import ROOT

IDS, CLASSES = ("a", "b", "c"), ("0", "1", "skip")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


def opened(path: Path) -> Answers:
    return Answers(path, IDS, CLASSES)


def test_answers_are_read_again_as_they_were_given(path: Path) -> None:
    answers = opened(path)
    answers.add("a", Answer(LABEL, "1"))
    answers.add("b", Answer(OTHER))
    answers.add("c", Answer(SKIP))

    for each in (answers, opened(path)):
        assert each.labels() == {"a": "1"}
        assert each.others() == ["b"]
        counts = {"images": 3, "labelled": 1, "other": 1, "skipped": 1, "left": 0, "conflicts": []}
        assert each.progress() == counts


def test_different_answers_to_an_image_keep_it_out_until_they_are_withdrawn(path: Path) -> None:
    answers = opened(path)
    for label in ("1", "0", "1"):
        answers.add("a", Answer(LABEL, label))
    answers.add("b", Answer(LABEL, "skip"))
    answers.add("b", Answer(OTHER))

    assert answers.labels() == {}
    assert answers.others() == []
    assert opened(path).conflicts() == {"a": ["0", "1"], "b": ["skip", "none of the classes"]}

    answers.add("a", Answer(UNDO))
    answers.add("a", Answer(LABEL, "0"))

    assert opened(path).labels() == {"a": "0"}
    assert list(opened(path).conflicts()) == ["b"]


def test_the_same_answer_twice_is_one_and_a_skip_gives_way_to_an_answer(path: Path) -> None:
    answers = opened(path)
    for answer in (Answer(SKIP), Answer(LABEL, "1"), Answer(LABEL, "1"), Answer(SKIP)):
        answers.add("a", answer)

    assert opened(path).of("a") == (Answer(LABEL, "1"),)


@pytest.mark.parametrize(
    ("id_", "answer", "named"),
    [
        ("z", Answer(LABEL, "1"), "expected the id of a selected image, found 'z'"),
        ("a", Answer("maybe"), "expected a kind of label, other, skip, undo, found 'maybe'"),
        ("a", Answer(LABEL, "7"), "found '7'"),
        ("a", Answer(LABEL), "found None"),
        ("a", Answer(SKIP, "skip"), "found 'skip'"),
    ],
)
def test_what_is_no_answer_is_refused_and_not_kept(path: Path, id_: str, answer: Answer, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        opened(path).add(id_, answer)

    assert not path.exists()


def test_an_incomplete_last_line_is_dropped_and_the_next_answer_is_whole(path: Path) -> None:
    opened(path).add("a", Answer(LABEL, "1"))
    with path.open("ab") as file:
        file.write(b'{"id": "b", "kin')

    answers = opened(path)
    answers.add("b", Answer(LABEL, "0"))

    assert opened(path).labels() == {"a": "1", "b": "0"}


def test_another_line_is_an_error_that_names_it(path: Path) -> None:
    path.write_text('{"id": "a", "kind": "label", "label": "1"}\n{"id": "z", "kind": "skip"}\n')

    with pytest.raises(BrokenSelectionError, match="something else in line 2"):
        opened(path)


def test_a_kill_loses_no_answer_that_was_confirmed(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pipeline.monitoring.answers import Answer, Answers\n"
        "ids = [str(number) for number in range(100000)]\n"
        "answers = Answers(Path(sys.argv[1]), ids, ['1'])\n"
        "for id_ in ids: answers.add(id_, Answer('label', '1')); print(id_, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(50):
            process.stdout.readline()
        time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        confirmed = 50 + len([line for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")])

    kept = Answers(path, [str(number) for number in range(100000)], ["1"]).labels()

    assert len(kept) >= confirmed
    assert list(kept) == [str(number) for number in range(len(kept))]
