"""Half a year of a model in use: what is served, what drifts, a few labels, retraining, and who is champion: `make simulate`.

Everything runs for real, in a clone of the last commit: the server that follows the champion and captures, the MLflow store,
drift, select, the HTTP interface of the label page, and retraining. Made by the simulation: the images, and the labels that a
person would give. Each week 2,000 images are served. They come from 12,000 training images of MNIST that the first model does
not train on, without those that were labelled. In week 5 the digits begin to turn and to thicken, over three weeks; in week 12
one class becomes four times as frequent; in week 18 somebody gives wrong labels.
"""

import argparse
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from shutil import copy, which
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import requests
from PIL import Image
from ruamel.yaml import YAML

from bench import loop_results
from bench.loop_results import FREQUENT, MIX, WRONG, Served, Week
from pipeline.core import files
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.data.datasets import Pixels, Split
from pipeline.inference.onnx_model import OnnxModel
from tests.servers import free_port, verb

_ROOT = Path(__file__).parent.parent
BASE, TRAFFIC, BATCH = 48_000, 2_000, 100  # images
RANDOM, INFORMATIVE = 50, 150  # labels of a selection
CYCLES = 3  # in a row, for a new kind of alarm
EVERYTHING = {"share": 1.0, "per_minute": 1_000_000, "most_bytes": 1_000_000_000, "most_days": 365}


class Person:
    """When somebody labels: in three weeks for each new kind of alarm, and when the live accuracy is surely too low."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.cycles = 0

    def labels_after(self, alarm: tuple[str, ...], below: bool) -> bool:
        if not set(alarm) <= self.seen:
            self.seen |= set(alarm)
            self.cycles = CYCLES
        due = below or self.cycles > 0
        self.cycles = max(0, self.cycles - 1)
        return due


class Learned(NamedTuple):
    """What came of a cycle."""

    labels: int
    promoted: bool
    event: str


class Simulation:
    """The clone, the traffic, and what became of it."""

    def __init__(self, root: Path, pool: Split, test: Split, seed: int) -> None:
        self.paths, self.pool, self.test = Paths(root), pool, test
        self.random = np.random.default_rng(seed)
        self.fresh = np.ones(len(pool.labels), bool)  # not labelled yet
        self.person = Person()
        self.truth: dict[bytes, tuple[int, int]] = {}  # row and label of each served image: some are captured a week later
        self.models = [self.model("first"), self.model("first")]  # the champion before this one, and this one
        self.first = self.models[0]

    def model(self, name: str) -> OnnxModel:
        """The model in the tree, from a copy."""
        path = self.paths.root.parent / f"{name}.onnx"
        copy(self.paths.onnx, path)
        return OnnxModel(path)

    def run(self, *command: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=self.paths.root, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def git(self, *arguments: str) -> None:
        command = [which("git") or "git", *arguments]
        subprocess.run(command, cwd=self.paths.root, check=True)

    def traffic(self, week: int) -> tuple[Any, Split]:
        """The rows of the pool that are served in a week, and how they look then."""
        weights = self.fresh * np.where((week >= MIX) & (self.pool.labels == FREQUENT), 4.0, 1.0)
        rows = self.random.choice(len(weights), TRAFFIC, replace=False, p=weights / weights.sum())
        return rows, Split(loop_results.world(self.pool.images[rows], week), self.pool.labels[rows])

    def serve(self, port: int, images: Pixels) -> tuple[Any, str]:
        """The predicted classes, and the version that answered last."""
        predicted, version = [], ""
        for start in range(0, len(images), BATCH):
            body = json.dumps({"inputs": {"image": images[start : start + BATCH].tolist()}})
            answer = requests.post(
                f"http://127.0.0.1:{port}/invocations", body, headers={"Content-Type": "application/json"}, timeout=60
            )
            answer.raise_for_status()
            predicted += np.argmax(answer.json()["predictions"]["probabilities"], axis=1).tolist()
            version = answer.headers["X-Model-Version"]
        return np.array(predicted), version

    def label(self, wrong: bool) -> int:
        """Answer as a person would on the label page; return the number of labels."""
        with verb("label", self.paths.root, port := free_port()):
            address = f"http://127.0.0.1:{port}"
            items = requests.get(f"{address}/items", timeout=60).json()["items"]
            for item in items:
                content = requests.get(f"{address}/images/{item['id']}.png", timeout=60).content
                row, label = self.truth[np.asarray(Image.open(io.BytesIO(content)).convert("L")).tobytes()]
                self.fresh[row] = False
                given = (label + self.random.integers(1, 10)) % 10 if wrong else label
                answer = {"id": item["id"], "kind": "label", "label": str(given)}
                requests.post(f"{address}/answers", json=answer, timeout=60).raise_for_status()
            requests.post(f"{address}/finish", json={}, timeout=600).raise_for_status()
        return len(items)

    def learn(self, captured: Path, week: int) -> Learned:
        """Select, label and retrain."""
        options = ("--informative", str(INFORMATIVE), "--random", str(RANDOM))
        code, printed = self.run("pipeline.select", str(captured), *options)
        if code:
            return Learned(0, False, f"select failed: {printed.strip().splitlines()[0]}")
        count = self.label(wrong=week == WRONG)
        code, printed = self.run("pipeline.retrain")
        if code == 0:
            verdict = files.read_json(self.paths.promotion)
            if verdict["promote"]:
                self.models = [self.models[1], self.model(f"week-{week}")]
            return Learned(count, verdict["promote"], verdict["sentence"])
        print(printed, flush=True)
        reasons = [line.strip() for line in printed.splitlines() if "validate." in line]
        self.git("reset", "--quiet", "--hard", "HEAD~1")  # a person takes the labels back
        return Learned(count, False, f"stopped: {reasons[0] if reasons else printed.strip().splitlines()[-1]}")

    def week(self, number: int, port: int, capture: Path) -> Served:
        rows, served = self.traffic(number)
        self.truth |= {image.tobytes(): (row, label) for row, image, label in zip(rows, *served, strict=True)}
        predicted, version = self.serve(port, served.images)
        accuracies = [accuracy(model, served) for model in (self.first, self.models[0])]
        base = accuracy(self.models[1], self.test)
        captured = _moved(capture, self.paths.root / f"served-{number}")
        self.run("pipeline.drift", str(captured))
        checks = files.read_json(self.paths.drift_report)["checks"]
        alarm = tuple(name for name, check in checks.items() if check["drifted"])
        learned = Learned(0, False, "")
        if self.person.labels_after(alarm, self.below()) or number == WRONG:
            learned = self.learn(captured, number)
        if learned.promoted:
            _wait_for_another(version, port)
        right = float((predicted == served.labels).mean())
        return Served(Week(number, right, *accuracies, base, version, alarm, *learned), served)

    def below(self) -> bool:
        """Whether the champion's last measured accuracy is surely too low."""
        path = self.paths.live_accuracy_report
        report = files.read_json(path) if path.is_file() else {"below": False}
        return bool(report["below"] and report["onnx_sha256"] == files.sha256(self.paths.onnx))


def accuracy(model: OnnxModel, split: Split) -> float:
    return float((model.predict(split.images).argmax(axis=1) == split.labels).mean())


def _moved(capture: Path, target: Path) -> Path:
    """The files that the server captured this week, in a folder of their own."""
    deadline = time.monotonic() + 60
    while not list(capture.glob("captured-*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.2)
    target.mkdir()
    for file in capture.glob("captured-*.parquet"):
        file.rename(target / file.name)
    return target


def _wait_for_another(version: str, port: int) -> None:
    deadline = time.monotonic() + 60
    while requests.get(f"http://127.0.0.1:{port}/ping", timeout=60).headers["X-Model-Version"] == version:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the server still serves version {version}")
        time.sleep(0.2)


def prepared(root: Path, train: Split, test: Split) -> None:
    """A clone whose base are the first 48,000 training images, with a champion."""
    git = which("git") or "git"
    subprocess.run([git, "clone", "--quiet", str(_ROOT), str(root)], check=True)
    for key in ("name", "email"):
        subprocess.run([git, "config", f"user.{key}", "loop@localhost"], cwd=root, check=True)
    subprocess.run([git, "init", "--quiet", "--bare", "--initial-branch", "main", "../origin.git"], cwd=root, check=True)
    subprocess.run([git, "remote", "set-url", "origin", "../origin.git"], cwd=root, check=True)
    arrays = {"x_train": train.images[:BASE], "y_train": train.labels[:BASE], "x_test": test.images, "y_test": test.labels}
    np.savez(root.parent / "base.npz", **arrays)
    yaml, path = YAML(), root / "params.yaml"
    content = yaml.load(path)
    content["fetch"]["sources"] = ["../base.npz"]
    for entry in content["fetch"]["files"].values():
        entry["sha256"] = None
    content["validate"]["rows"]["train"] = [BASE, BASE]
    content["serve"]["capture"] = EVERYTHING
    yaml.dump(content, path)
    for command in (["pipeline.remote", "../outputs"], ["dvc", "repro", "--quiet"], ["pipeline.promote", "--first"]):
        subprocess.run([sys.executable, "-m", *command], cwd=root, check=True)
    subprocess.run([git, "add", "--all"], cwd=root, check=True)
    subprocess.run([git, "commit", "--quiet", "--message", "First champion"], cwd=root, check=True)
    subprocess.run([git, "push", "--quiet", "--set-upstream", "origin", "HEAD:main"], cwd=root, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "push", "--quiet"], cwd=root, check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weeks", type=int, default=26)
    options = parser.parse_args()
    train, test = (Split(*(np.asarray(each) for each in datasets.load(Paths(_ROOT), name))) for name in ("train", "test"))
    with TemporaryDirectory() as folder:
        root = Path(folder) / "clone"
        prepared(root, train, test)
        pool = Split(train.images[BASE:], train.labels[BASE:])
        simulation, weeks, capture = Simulation(root, pool, test, seed=0), [], root / "captured"
        with verb("serve", root, port := free_port(), "--capture", str(capture)):
            for number in range(1, options.weeks + 1):
                weeks.append(simulation.week(number, port, capture))
                print(weeks[-1].week, flush=True)
    loop_results.write(weeks, Split(train.images[:BASE], train.labels[:BASE]), test)
    return 0


if __name__ == "__main__":
    sys.exit(main())
