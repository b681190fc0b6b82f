"""The HTTP interface of the label page, without a socket."""

import asyncio
import json
import resource
import signal
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.monitoring.answers import Answers
from pipeline.monitoring.errors import NoLabelsError
from pipeline.monitoring.label_app import LabelApp
from pipeline.monitoring.selected import Selection, identifiers
from tests.serving.asgi import Response, asked

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 5, 4)).astype(np.uint8)
IDS = identifiers(IMAGES)
CLASSES = ("cat", "dog")


class Page:
    """The application over a selection of three images."""

    def __init__(self, folder: Path) -> None:
        probabilities = np.array([[0.25, 0.75], [1, 0], [0.5, 0.5]], np.float32)
        self.selection = Selection(IMAGES, probabilities, IDS, ("random", "informative", "random"), CLASSES, {})
        self.answers = Answers(folder / "answers.jsonl", IDS, CLASSES)
        self.finished, self.stopped = 0, 0
        self.app = LabelApp(self.selection, self.answers, self.finish, self.stop).build()

    def finish(self, selection: Selection, answers: Answers) -> dict[str, Any]:
        if not answers.labels():
            raise NoLabelsError(Path("data/selected"), "none")
        self.finished += 1
        return {"set": "recent"}

    def stop(self) -> None:
        self.stopped += 1

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Response:
        return asyncio.run(asked(self.app, method, path, body, **headers))

    def post(self, path: str, content: Any, **headers: str) -> Response:
        return self.ask("POST", path, json.dumps(content).encode(), **{"Content_Type": "application/json", **headers})


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return Page(tmp_path)


def test_items_name_classes_and_images_but_neither_predictions_nor_parts(page: Page) -> None:
    page.post("/answers", {"id": IDS[1], "kind": "label", "label": "dog"})

    found = page.ask("GET", "/items").content

    assert found["classes"] == ["cat", "dog"]
    assert found["items"] == [
        {"id": IDS[0], "answers": []},
        {"id": IDS[1], "answers": [{"kind": "label", "label": "dog"}]},
        {"id": IDS[2], "answers": []},
    ]
    assert (found["labelled"], found["left"]) == (1, 2)


def test_an_image_has_the_pixels_of_the_selection(page: Page) -> None:
    response = page.ask("GET", f"/images/{IDS[2]}.png")

    assert response.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(response.body))), IMAGES[2])


def test_a_prediction_is_given_only_to_who_asks_for_it(page: Page) -> None:
    found = page.ask("GET", f"/predictions/{IDS[0]}").content

    assert found == {"label": "dog", "probability": 0.75, "probabilities": {"cat": 0.25, "dog": 0.75}}


def test_an_answer_is_in_the_file_when_the_response_comes(page: Page, tmp_path: Path) -> None:
    response = page.post("/answers", {"id": IDS[0], "kind": "other"})

    assert response.content["other"] == 1
    assert Answers(tmp_path / "answers.jsonl", IDS, CLASSES).others() == [IDS[0]]


def test_contradictions_are_shown(page: Page) -> None:
    for label in CLASSES:
        response = page.post("/answers", {"id": IDS[0], "kind": "label", "label": label})

    assert response.content["conflicts"] == [{"id": IDS[0], "answers": ["cat", "dog"]}]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"id": IDS[0], "kind": "label", "label": "cow"}, "the name of a class"),
        ({"id": "none", "kind": "skip"}, "the id of a selected image"),
        ({"id": IDS[0], "kind": "label", "label": ["cat"]}, "unhashable|the name of a class"),
        ({}, "the id of a selected image"),
        ([], "an object"),
    ],
)
def test_what_is_no_answer_is_refused(page: Page, content: Any, expected: str, tmp_path: Path) -> None:
    response = page.post("/answers", content)

    assert response.status == 400
    assert any(part in response.content["message"] for part in expected.split("|"))
    assert not (tmp_path / "answers.jsonl").exists()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "rebound.example.org:5003"}, 403),
        ({"origin": "http://evil.example.org"}, 403),
        ({"Content_Type": "text/plain"}, 415),
    ],
)
def test_other_sites_cannot_answer(page: Page, headers: dict[str, str], status: int, tmp_path: Path) -> None:
    assert page.post("/answers", {"id": IDS[0], "kind": "other"}, **headers).status == status
    assert not (tmp_path / "answers.jsonl").exists()


@pytest.mark.parametrize("path", ["/", "/items", f"/images/{IDS[0]}.png", f"/predictions/{IDS[0]}", "/label.js"])
def test_other_sites_can_read_nothing(page: Page, path: str) -> None:
    assert page.ask("GET", path, host="rebound.example.org").status == 403
    assert page.ask("GET", path).status == 200


def test_a_long_body_is_refused(page: Page) -> None:
    assert page.post("/answers", {"id": "x" * 20_000}).status == 413


def test_on_a_full_disk_the_answer_is_refused_and_later_ones_are_kept(page: Page, tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    page.post("/answers", {"id": IDS[0], "kind": "skip"})
    before = answers.read_bytes()
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, allowed[1]))
    try:
        refused = page.post("/answers", {"id": IDS[1], "kind": "skip"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, allowed)
        signal.signal(signal.SIGXFSZ, handler)

    assert refused.status == 507
    assert "It is not saved" in refused.content["message"]
    assert answers.read_bytes() == before
    assert page.post("/answers", {"id": IDS[1], "kind": "other"}).content["other"] == 1
    assert Answers(answers, IDS, CLASSES).others() == [IDS[1]]


def test_finishing_ends_the_server_after_the_response(page: Page) -> None:
    page.post("/answers", {"id": IDS[0], "kind": "label", "label": "cat"})

    response = page.post("/finish", {})

    assert response.content == {"set": "recent"}
    assert (page.finished, page.stopped) == (1, 1)
    assert page.post("/answers", {"id": IDS[1], "kind": "skip"}).status == 409
    assert page.post("/finish", {}).status == 409


def test_without_a_label_finishing_says_so_and_labelling_goes_on(page: Page) -> None:
    response = page.post("/finish", {})

    assert response.status == 409
    assert "expected at least one labelled image that is new" in response.content["message"]
    assert page.post("/answers", {"id": IDS[0], "kind": "label", "label": "cat"}).status == 200
    assert (page.finished, page.stopped) == (0, 0)
