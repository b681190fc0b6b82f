"""The MLflow UI in Chromium, on the store of a finished pipeline whose folder was moved."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from pipeline import ui
from pipeline.core import files
from pipeline.tracking import sqlite_store
from tests.browser import chromium
from tests.chaos.conftest import LONG
from tests.conftest import Repository
from tests.imports import ROOT
from tests.servers import free_port, verb

SECONDS = 60  # timeout for a page of the UI, which renders in steps


@pytest.fixture(scope="module")
def moved(built: Repository, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the built tree in another folder than the one that its runs recorded."""
    root = tmp_path_factory.mktemp("moved") / "to here"
    shutil.copytree(built.paths.root, root)
    return root


@pytest.fixture(scope="module")
def address(moved: Path) -> Iterator[str]:
    """`make ui` on the moved tree."""
    port = free_port()
    with verb("ui", moved, port):
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_the_server_ends_with_the_verb_however_that_ends(signum: signal.Signals, built: Repository) -> None:
    command = [sys.executable, "-m", "pipeline.ui", "--port", str(free_port())]
    enable = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "signal.signal(signal.SIGHUP, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", enable, *command],  # shells ignore SIGINT in background jobs, nohup SIGHUP
        cwd=built.paths.root,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as ui:
        deadline = time.monotonic() + SECONDS
        while not (started := psutil.Process(ui.pid).children()) and time.monotonic() < deadline:
            time.sleep(0.05)
        ui.send_signal(signum)

    gone, alive = psutil.wait_procs(started, timeout=SECONDS)
    assert (len(gone), alive) == (1, [])


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium(1400, 1800) as opened:
        yield opened


@pytest.fixture(scope="module")
def run_page(address: str, built: Repository) -> str:
    import mlflow

    run_id = files.read_json(built.paths.registration)["run_id"]
    experiment = mlflow.MlflowClient(built.paths.tracking_uri).get_run(run_id).info.experiment_id
    return f"{address}/#/experiments/{experiment}/runs/{run_id}"


def shows(browser: Any, *texts: str) -> None:
    """Wait until the page shows each of `texts`."""
    for text in texts:
        WebDriverWait(browser, SECONDS).until(
            lambda _, text=text: text in browser.find_element(By.TAG_NAME, "body").text,
            f"no {text!r} at {browser.current_url}",
        )


def in_frame(browser: Any, selector: str) -> Any:
    """Switch to the frame in which the UI shows an HTML artifact, and wait for an element in it."""
    frame = WebDriverWait(browser, SECONDS).until(lambda _: browser.find_elements(By.TAG_NAME, "iframe"), "no frame")[0]
    browser.switch_to.frame(frame)
    return WebDriverWait(browser, SECONDS).until(lambda _: browser.find_elements(By.CSS_SELECTOR, selector), f"no {selector}")[
        0
    ]


def open_page(browser: Any, address: str) -> None:
    browser.switch_to.default_content()
    browser.get("about:blank")  # otherwise only the fragment changes, and the old page stays for a moment
    browser.get(address)


def test_artifacts_are_served_from_the_folder_beside_the_store(address: str, built: Repository, moved: Path) -> None:
    """Change a plot in the moved tree only, and download it over HTTP as the pages do."""
    run_id = files.read_json(built.paths.registration)["run_id"]
    (plot,) = (moved / "mlruns" / "artifacts").glob(f"{run_id}/artifacts/plots/worst_mistakes.png")
    plot.write_bytes(plot.read_bytes() + b"moved")

    found = requests.get(f"{address}/get-artifact", {"path": "plots/worst_mistakes.png", "run_uuid": run_id}, timeout=60)

    assert found.status_code == 200
    assert found.content == plot.read_bytes()


def test_the_page_that_opens_lists_the_training_runs(browser: Any, address: str, built: Repository) -> None:
    accuracy = files.read_json(built.paths.metrics)["accuracy"]
    open_page(browser, ui.runs_page(address, sqlite_store.experiment_id(built.paths.database, "mnist")))

    shows(browser, "Run Name", f"{accuracy:.2%} seed {built.params.train.seed}", "mnist-train")


@pytest.mark.skipif(not LONG, reason="starts another server: make chaos")
def test_a_desktop_gets_the_page_in_its_browser_once_the_server_answers(moved: Path, tmp_path: Path) -> None:
    port, opened, browser = free_port(), tmp_path / "opened", tmp_path / "browser"
    ask = "import sys, urllib.request as r; r.urlopen(sys.argv[1])"
    browser.write_text(f"""#!/bin/sh\n{sys.executable} -c '{ask}' "$1" && echo "$1" > {opened}\n""")
    browser.chmod(0o755)
    command = [sys.executable, "-m", "pipeline.ui", "--port", str(port)]
    own, terminal = os.openpty()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "BROWSER": f"{browser} %s", "DISPLAY": ":9"}
    with subprocess.Popen(command, cwd=moved, env=environment, stdout=terminal, stderr=terminal) as started:
        os.close(terminal)
        deadline = time.monotonic() + SECONDS
        while not opened.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        started.terminate()
    printed = os.read(own, 10_000).decode()
    os.close(own)

    page = f"http://127.0.0.1:{port}/#/experiments/1/runs?workflowType=machine_learning"
    assert opened.read_text().strip() == page
    assert page in printed


@pytest.mark.parametrize(
    ("terminal", "screens", "expected"),
    [(True, {"DISPLAY": ":0"}, True), (True, {}, False), (False, {"DISPLAY": ":0"}, False)],
)
def test_no_browser_starts_for_a_job_or_over_ssh(
    terminal: bool, screens: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in screens.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)

    assert ui.on_desktop() is expected


def test_of_a_named_server_the_page_of_the_runs_is_printed(
    address: str, built: Repository, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{address}/")

    assert ui.run(argparse.Namespace(port=0), built.params, built.paths) == 0

    assert f"browse {address}/#/experiments/1/runs?workflowType=machine_learning" in capsys.readouterr().out


def test_the_run_shows_its_parameters_and_metrics(browser: Any, run_page: str) -> None:
    open_page(browser, run_page)

    shows(browser, "model.hidden_units", "(256,)", "test/accuracy", "data_fingerprint")


def test_the_run_is_described_and_shows_no_tag_of_the_program(browser: Any, run_page: str) -> None:
    open_page(browser, run_page)

    shows(browser, "Data: mnist, 3,000 training images, 1,000 test images", "Accuracy: ", "Changed: ", "data_fingerprint")
    text = browser.find_element(By.TAG_NAME, "body").text
    assert not [name for name in ("mlflow.pipeline", "owner", "The pipeline replaces") if name in text]


@pytest.mark.skipif(not LONG, reason="opens one more page: make chaos")
def test_the_run_shows_its_curves(browser: Any, run_page: str) -> None:
    open_page(browser, f"{run_page}/model-metrics")

    shows(browser, "epoch", "val_accuracy")
    plotted = "svg.main-svg .scatterlayer .trace"
    WebDriverWait(browser, SECONDS).until(lambda _: browser.find_elements(By.CSS_SELECTOR, plotted), "no curve")


def test_the_run_shows_its_plots(browser: Any, run_page: str) -> None:
    open_page(browser, f"{run_page}/artifacts/plots/worst_mistakes.png")

    def drawn(_: Any) -> Any:
        return browser.execute_script("return [...document.images].some((image) => image.naturalWidth > 500)")

    shows(browser, "worst_mistakes.png")
    WebDriverWait(browser, SECONDS).until(drawn, "no image")


@pytest.mark.skipif(not LONG, reason="tests/test_explore.py tests the page: make chaos")
def test_the_run_shows_the_explorer_and_it_works_there(browser: Any, run_page: str) -> None:
    open_page(browser, f"{run_page}/artifacts/explorer/index.html")

    assert in_frame(browser, "#answer .first .figure").text.endswith("%")
    assert "203,530 parameters" in browser.find_element(By.ID, "about").text


@pytest.mark.parametrize("page", ["report.html", "data_docs/index.html"] if LONG else ["report.html"])
def test_the_run_shows_the_validation_report(page: str, browser: Any, run_page: str) -> None:
    open_page(browser, f"{run_page}/artifacts/validation/{page}")

    assert in_frame(browser, "p").text == "none"  # the placeholder for the report in the built tree


def test_the_model_page_shows_version_and_aliases(browser: Any, address: str) -> None:
    open_page(browser, f"{address}/#/models/mnist-dense")

    shows(browser, "mnist-dense", "Version 1", "challenger", "Model card: mnist", "Intended use")


def test_the_version_page_shows_the_model_card(browser: Any, address: str) -> None:
    open_page(browser, f"{address}/#/models/mnist-dense/versions/1")

    shows(browser, "Version 1", "Model card: mnist", "accuracy, shifted by 2 pixels", "onnx_sha256")
