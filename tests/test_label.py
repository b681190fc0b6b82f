"""Select and label as a user does: the page in Chromium, a server that is killed, and the data set that comes of it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import requests
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from pipeline import fetch
from pipeline.core import files, params
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.data.datasets import Pixels, Split
from pipeline.inference.onnx_model import OnnxModel
from pipeline.monitoring import selected
from pipeline.monitoring.selected import Selection
from pipeline.serving.capture import Capture
from tests.browser import chromium, console_errors, requested_urls
from tests.chaos.conftest import LONG
from tests.clones import git
from tests.conftest import Repository, edit_params
from tests.imports import ROOT
from tests.web import closed

SECONDS = 60


@pytest.fixture
def paths(built: Repository, tmp_path: Path) -> Paths:
    """A copy of the built tree whose store has no champion."""
    for name in ("data", "mlruns"):
        shutil.copytree(built.paths.root / name, tmp_path / name)
    shutil.copy(built.paths.root / "params.yaml", tmp_path / "params.yaml")
    return Paths(tmp_path)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


def run(paths: Paths, verb: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", f"pipeline.{verb}", *arguments],
        cwd=paths.root,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@contextmanager
def labelling(paths: Paths) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Start `python -m pipeline.label`; yield its address and process."""
    address = closed()
    command = [sys.executable, "-m", "pipeline.label", "--port", address.rstrip("/").rpartition(":")[2]]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=paths.root, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            wait(lambda: process.poll() is not None or answers(address))
            yield address, process
        finally:
            process.kill()


def answers(address: str) -> bool:
    try:
        return requests.get(f"{address}items", timeout=SECONDS).ok
    except requests.ConnectionError:
        return False


def wait(holds: Callable[[], Any]) -> None:
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def write(paths: Paths, images: Pixels, classes: tuple[str, ...]) -> Selection:
    """Write a selection of distinct images, every second of the random part."""
    probabilities = np.full((len(images), len(classes)), 1 / len(classes), np.float32)
    parts: tuple[selected.Part, ...] = tuple("random" if row % 2 else "informative" for row in range(len(images)))
    selection = Selection(images, probabilities, selected.identifiers(images), parts, classes, {})
    selected.write(selection, paths)
    return selection


def press(browser: Any, *keys: str) -> None:
    for key in keys:
        ActionChains(browser).send_keys(key).perform()


def open_page(browser: Any, address: str) -> None:
    browser.get(address)
    wait(lambda: browser.execute_script("return page.items.length > 0"))


def text(browser: Any, identifier: str) -> str:
    return str(browser.find_element(By.ID, identifier).text)


def given(paths: Paths) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (paths.selected / "answers.jsonl").read_text(encoding="utf-8").splitlines()]


def test_fifty_images_by_keyboard_with_a_kill_in_the_middle(browser: Any, paths: Paths, subset: dict[str, Split]) -> None:
    selection = write(paths, subset["test"].images[:50], params.load(paths.params).fetch.classes)
    truth = [str(label) for label in subset["test"].labels[:50]]
    console_errors(browser)
    requested_urls(browser)

    with labelling(paths) as (address, process):
        open_page(browser, address)
        assert "0 of 50 answered" in text(browser, "progress")
        press(browser, *truth[:25])
        wait(lambda: "25 of 50" in text(browser, "progress"))
        assert console_errors(browser) == []
        process.send_signal(signal.SIGKILL)
        process.wait()
        press(browser, truth[25])
        wait(lambda: "Not saved" in text(browser, "problem"))

    assert [each["label"] for each in given(paths)] == truth[:25]
    with labelling(paths) as (address, process):
        open_page(browser, address)
        assert "25 of 50 answered" in text(browser, "progress")
        press(browser, *truth[25:])
        wait(lambda: "50 of 50" in text(browser, "progress"))
        assert text(browser, "headline") == "All images are answered."
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
        assert "50 label(s) saved, 0 image(s) left" in process.stdout.read()  # type: ignore[union-attr]

    assert [(each["id"], each["label"]) for each in given(paths)] == list(zip(selection.ids, truth, strict=True))
    hosts = {url.split("/")[2].partition(":")[0] for url in requested_urls(browser) if url.startswith("http")}
    assert hosts == {"127.0.0.1"}


def test_the_keys_for_undo_skip_none_of_the_classes_and_the_prediction(
    browser: Any, paths: Paths, subset: dict[str, Split]
) -> None:
    ids = write(paths, subset["test"].images[:5], params.load(paths.params).fetch.classes).ids

    with labelling(paths) as (address, _):
        open_page(browser, address)
        assert "Prediction:" not in browser.page_source
        press(browser, Keys.ARROW_UP)
        wait(lambda: text(browser, "prediction") == "Prediction: 0 (10.0 %)")
        press(browser, "3", Keys.ARROW_LEFT, "4", Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
        wait(lambda: "1 labelled · 1 of no class · 1 skipped" in text(browser, "progress"))
        assert text(browser, "prediction") == "Show prediction"
        press(browser, "7")
        wait(lambda: "2 labelled" in text(browser, "progress"))
        requests.post(f"{address}answers", json={"id": ids[0], "kind": "label", "label": "9"}, timeout=SECONDS)
        browser.find_element(By.CSS_SELECTOR, "#classes button").click()
        wait(lambda: "1 labelled differently" in text(browser, "progress"))
        assert text(browser, "conflicting") == "4 / 9"
        browser.find_element(By.ID, "review").click()
        wait(lambda: browser.find_element(By.ID, "image").get_dom_attribute("data-id") == ids[2])

    assert [(each["kind"], each["label"]) for each in given(paths)] == [
        *(("label", "3"), ("undo", None), ("label", "4"), ("other", None), ("skip", None)),
        *(("label", "7"), ("label", "9"), ("label", "0"), ("undo", None)),
    ]


def test_more_than_ten_classes_are_found_by_typing(browser: Any, paths: Paths, subset: dict[str, Split]) -> None:
    names = ("apple", "apricot", "banana", "cherry", "date", "elder", "fig", "grape", "kiwi", "lemon", "7 up", "água")
    write(paths, subset["test"].images[:4], names)

    with labelling(paths) as (address, _):
        open_page(browser, address)
        press(browser, *"apr", Keys.ENTER)
        wait(lambda: "1 labelled" in text(browser, "progress"))
        press(browser, "7", Keys.ENTER)
        wait(lambda: "2 labelled" in text(browser, "progress"))
        press(browser, *"an")
        shown = browser.find_elements(By.CSS_SELECTOR, "#classes button:not([hidden])")
        assert [button.text for button in shown] == ["banana"]
        press(browser, Keys.ESCAPE, *"á", Keys.ENTER)
        wait(lambda: "3 labelled" in text(browser, "progress"))

    assert [each["label"] for each in given(paths)] == ["apricot", "7 up", "água"]


def test_what_was_captured_becomes_a_data_set_that_fetch_reads(paths: Paths, subset: dict[str, Split]) -> None:
    images, labels = subset["test"].images[:300], subset["test"].labels[:300]
    truth = dict(zip(selected.identifiers(images), map(str, labels), strict=True))
    model = OnnxModel(paths.onnx)
    capture = Capture(paths.root / "captured", params.load(paths.params).serve.capture.model_copy(update={"share": 1.0}))
    capture.offer(images, model.predict(images), "1")
    capture.stop()
    git(paths.root, "init", "--quiet")
    assert subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], cwd=paths.root, check=False).returncode == 0

    done = run(paths, "select", "captured", "--random", "20", "--informative", "10")
    assert "20 random and 10 informative images" in done.stdout, done.stderr
    selection = selected.read(paths)
    with labelling(paths) as (address, process):
        for item in requests.get(f"{address}items", timeout=SECONDS).json()["items"]:
            answer = {"id": item["id"], "kind": "label", "label": truth[item["id"]]}
            assert requests.post(f"{address}answers", json=answer, timeout=SECONDS).ok
        refused = run(paths, "select", "captured")
        assert "found one that is running" in refused.stderr
        written = requests.post(f"{address}finish", json={}, timeout=SECONDS).json()
        assert process.wait(SECONDS) == 0

    assert (written["random"], written["informative"], written["conflicts"]) == (20, 10, [])
    assert written["live_accuracy"] == files.read_json(paths.live_accuracy_report)
    assert (paths.root / f"{written['file']}.dvc").is_file()
    assert not paths.selected.exists()
    (extra,) = params.load(paths.params).fetch.extra
    assert (extra.name, extra.source, extra.kind) == (written["set"], written["file"], "recent")
    again = run(paths, "select", "captured", "--random", "300", "--informative", "0")
    assert "30 labelled already or nearly the same" in again.stdout, again.stderr
    assert not set(selected.read(paths).ids) & set(selection.ids)

    with chdir(paths.root):
        fetch.run(edit_params(paths.params, {"fetch.invert": True}), Paths())  # which must not turn what was served
        random_part = datasets.recent_slices(Paths(), newest=1)["recent"]
    assert sorted(selected.identifiers(random_part.images)) == sorted(
        id_ for id_, part in zip(selection.ids, selection.parts, strict=True) if part == "random"
    )
    assert [truth[id_] for id_ in selected.identifiers(random_part.images)] == [str(label) for label in random_part.labels]


def test_an_unfinished_selection_is_not_replaced(paths: Paths, subset: dict[str, Split]) -> None:
    selection = write(paths, subset["test"].images[:4], params.load(paths.params).fetch.classes)
    (paths.selected / "answers.jsonl").write_text(json.dumps({"id": selection.ids[0], "kind": "other"}) + "\n")
    np.save(paths.root / "served.npy", subset["test"].images[:50])

    refused = run(paths, "select", "served.npy")

    assert refused.returncode == 1
    assert "found one with 1 answers" in refused.stderr
    assert selected.read(paths).ids == selection.ids


@pytest.mark.skipif(not LONG, reason="starts several processes: make chaos")
def test_a_folder_of_labelled_files_becomes_a_data_set(paths: Paths, subset: dict[str, Split]) -> None:
    from PIL import Image

    for split, rows in (("train", range(6)), ("test", range(6, 10))):
        for row in rows:
            folder = paths.root / "labelled" / split / str(subset["test"].labels[row])
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(subset["test"].images[row]).save(folder / f"{row}.png")
    other = paths.root / "labelled" / "train" / str((subset["test"].labels[0] + 1) % 10)
    other.mkdir(exist_ok=True)
    Image.fromarray(subset["test"].images[0]).save(other / "again.png")
    git(paths.root, "init", "--quiet")
    assert subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], cwd=paths.root, check=False).returncode == 0
    client = mlflow.MlflowClient(paths.tracking_uri)
    client.set_registered_model_alias("mnist-dense", "champion", "1")

    done = run(paths, "label", "--from", "labelled")

    assert done.returncode == 0, done.stderr
    assert "5 informative, 4 random images" in done.stdout
    assert f"left out {selected.identifiers(subset['test'].images[:1])[0]}: labelled differently" in done.stdout
    assert "mnist-dense version 1 (champion)" in done.stdout
    assert run(paths, "label", "--from", "labelled").returncode == 1  # nothing in it is new
