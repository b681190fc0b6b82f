"""The MLflow UI in Chromium, on the store of a finished pipeline whose folder was moved."""

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

from pipeline.core import files
from tests.browser import chromium
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


def test_the_run_shows_its_parameters_and_metrics(browser: Any, run_page: str) -> None:
    open_page(browser, run_page)

    shows(browser, "model.hidden_units", "(256,)", "test/accuracy", "data_fingerprint")


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


def test_the_run_shows_the_explorer_and_it_works_there(browser: Any, run_page: str) -> None:
    open_page(browser, f"{run_page}/artifacts/explorer/index.html")

    assert in_frame(browser, "#answer .first .figure").text.endswith("%")
    assert "203,530 parameters" in browser.find_element(By.ID, "about").text


def test_the_run_shows_the_data_docs(browser: Any, run_page: str) -> None:
    open_page(browser, f"{run_page}/artifacts/validation/data_docs/index.html")

    assert in_frame(browser, "p").text == "none"  # the placeholder for the report in the built tree


def test_the_model_page_shows_version_and_aliases(browser: Any, address: str) -> None:
    open_page(browser, f"{address}/#/models/mnist-dense")

    shows(browser, "mnist-dense", "Version 1", "challenger")
