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
from shutil import which
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import requests
from PIL import Image
from ruamel.yaml import YAML

from bench import report
from pipeline.core import files
from pipeline.core.intervals import with_interval
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.data.datasets import Pixels, Split
from pipeline.inference.onnx_model import OnnxModel
from tests.servers import free_port, verb
from tests.worlds import changed

_ROOT = Path(__file__).parent.parent
BASE, TRAFFIC, BATCH = 48_000, 2_000, 100  # images
RANDOM, INFORMATIVE = 100, 100  # labels of a selection
DEGREES = 30.0
TURNS, MIX, WRONG = 5, 12, 18  # weeks
FREQUENT = 7  # the class that becomes frequent

EVERYTHING = {"share": 1.0, "per_minute": 1_000_000, "most_bytes": 1_000_000_000, "most_days": 365}


class Week(NamedTuple):
    """What happened in a week; accuracies are of what was served."""

    number: int
    served: float
    first: float  # of the first champion on the same images
    version: str
    alarm: bool
    labels: int
    event: str


class Simulation:
    """The clone, the traffic, and what became of it."""

    def __init__(self, root: Path, pool: Split, seed: int) -> None:
        self.paths, self.pool = Paths(root), pool
        self.random = np.random.default_rng(seed)
        self.fresh = np.ones(len(pool.labels), bool)  # not labelled yet
        self.first = OnnxModel(self.paths.onnx)
        self.labels = 0

    def run(self, *command: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=self.paths.root, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def traffic(self, week: int) -> tuple[Any, Pixels, Pixels]:
        """The rows of the pool that are served in a week, and how they look then."""
        weights = self.fresh * np.where((week >= MIX) & (self.pool.labels == FREQUENT), 4.0, 1.0)
        rows = self.random.choice(len(weights), TRAFFIC, replace=False, p=weights / weights.sum())
        turned = min(1.0, max(0.0, (week - TURNS + 1) / 3))
        return rows, changed(self.pool.images[rows], DEGREES * turned, turned), self.pool.labels[rows]

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

    def label(self, rows: Any, images: Pixels, labels: Pixels, wrong: bool) -> int:
        """Answer as a person would on the label page; return the number of labels."""
        truth = {image.tobytes(): (row, label) for image, row, label in zip(images, rows, labels, strict=True)}
        with verb("label", self.paths.root, port := free_port()):
            address = f"http://127.0.0.1:{port}"
            items = requests.get(f"{address}/items", timeout=60).json()["items"]
            for item in items:
                content = requests.get(f"{address}/images/{item['id']}.png", timeout=60).content
                row, label = truth[np.asarray(Image.open(io.BytesIO(content)).convert("L")).tobytes()]
                self.fresh[row] = False
                given = (label + self.random.integers(1, 10)) % 10 if wrong else label
                answer = {"id": item["id"], "kind": "label", "label": str(given)}
                requests.post(f"{address}/answers", json=answer, timeout=60).raise_for_status()
            requests.post(f"{address}/finish", json={}, timeout=600).raise_for_status()
        self.labels += len(items)
        return len(items)

    def learn(self, captured: Path, week: int, served: tuple[Any, Pixels, Pixels]) -> tuple[int, str]:
        """Select, label and retrain; return the number of labels, and what came of it."""
        options = ("--informative", str(INFORMATIVE), "--random", str(RANDOM))
        code, printed = self.run("pipeline.select", str(captured), *options)
        if code:
            return 0, f"select: {printed.strip().splitlines()[0]}"
        count = self.label(*served, wrong=week == WRONG)
        code, printed = self.run("pipeline.retrain")
        if code == 0:
            return count, files.read_json(self.paths.promotion)["sentence"]
        lines = [line.strip() for line in printed.splitlines() if "expected" in line]
        self.git("reset", "--quiet", "--hard", "HEAD~1")  # take the labels back, as a person would
        return count, f"failed: {lines[0] if lines else printed.strip().splitlines()[-1]}"

    def git(self, *arguments: str) -> None:
        command = [which("git") or "git", "-c", "user.name=loop", "-c", "user.email=loop@localhost", *arguments]
        subprocess.run(command, cwd=self.paths.root, check=True)

    def week(self, number: int, port: int, capture: Path) -> Week:
        rows, images, labels = self.traffic(number)
        predicted, version = self.serve(port, images)
        captured = _moved(capture, self.paths.root / f"served-{number}")
        alarm = self.run("pipeline.drift", str(captured), "--check")[0] == 3
        below = (
            files.read_json(self.paths.live_accuracy_report)["below"] if self.paths.live_accuracy_report.is_file() else False
        )
        count, event = 0, ""
        if alarm or below or number == WRONG:
            count, event = self.learn(captured, number, (rows, images, labels))
        right = self.first.predict(images).argmax(axis=1) == labels
        return Week(number, float((predicted == labels).mean()), float(right.mean()), version, alarm, count, event)


def _moved(capture: Path, target: Path) -> Path:
    """The files that the server captured this week, in a folder of their own."""
    deadline = time.monotonic() + 60
    while not list(capture.glob("captured-*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.2)
    target.mkdir()
    for file in capture.glob("captured-*.parquet"):
        file.rename(target / file.name)
    return target


def prepared(root: Path, data: dict[str, Split]) -> None:
    """A clone whose base are the first 48,000 training images, with a champion."""
    git = which("git") or "git"
    subprocess.run([git, "clone", "--quiet", str(_ROOT), str(root)], check=True)
    for key in ("name", "email"):
        subprocess.run([git, "config", f"user.{key}", "loop@localhost"], cwd=root, check=True)
    train, test = data["train"], data["test"]
    np.savez(
        root.parent / "base.npz",
        x_train=train.images[:BASE],
        y_train=train.labels[:BASE],
        x_test=test.images,
        y_test=test.labels,
    )
    yaml, path = YAML(), root / "params.yaml"
    content = yaml.load(path)
    content["fetch"]["sources"] = ["../base.npz"]
    for entry in content["fetch"]["files"].values():
        entry["sha256"] = None
    content["validate"]["rows"]["train"] = [BASE, BASE]
    content["serve"]["capture"] = EVERYTHING
    yaml.dump(content, path)


def body(weeks: list[Week], base: tuple[float, float], described: str) -> str:
    rows = [
        [
            str(each.number),
            f"{each.served:.1%}",
            f"{each.first:.1%}",
            each.version,
            "yes" if each.alarm else "",
            str(each.labels or ""),
        ]
        for each in weeks
    ]
    events = [f"- Week {each.number}: {each.event}" for each in weeks if each.event]
    turned = [each for each in weeks if each.number >= TURNS + 2]
    cost, back = (float(np.mean([getattr(each, name) for each in turned])) for name in ("first", "served"))
    return "\n".join(
        [
            f"{described}\n",
            f"After the change (from week {TURNS + 2}) the first champion is right on {cost:.1%} of what is served, the loop "
            f"on {back:.1%}, with {sum(each.labels for each in weeks):,} labels. On the test split the first champion has "
            f"{with_interval(base[0], 10_000)}, the last {with_interval(base[1], 10_000)}.\n",
            report.table(["week", "served, with the loop", "without it", "version", "alarm", "labels"], rows),
            "\n" + "\n".join(events) + "\n",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weeks", type=int, default=26)
    options = parser.parse_args()
    paths = Paths(_ROOT)
    data = {name: Split(*(np.asarray(each) for each in datasets.load(paths, name))) for name in ("train", "test")}
    with TemporaryDirectory() as folder:
        root = Path(folder) / "clone"
        prepared(root, data)
        pool = Split(data["train"].images[BASE:], data["train"].labels[BASE:])
        for command in (["dvc", "repro", "--quiet"], ["pipeline.promote", "--first"]):
            subprocess.run([sys.executable, "-m", *command], cwd=root, check=True)
        simulation = Simulation(root, pool, seed=0)
        simulation.git("remote", "remove", "origin")
        simulation.git("add", "--all")
        simulation.git("commit", "--quiet", "--message", "First champion")
        weeks, capture, before = [], root / "captured", files.read_json(simulation.paths.metrics)["accuracy"]
        with verb("serve", root, port := free_port(), "--capture", str(capture)):
            for number in range(1, options.weeks + 1):
                weeks.append(simulation.week(number, port, capture))
                print(weeks[-1], flush=True)
                time.sleep(5)  # the server looks for a new champion every two seconds
        after = files.read_json(simulation.paths.metrics)["accuracy"]
    described = report.machine("python -m bench.loop", "keras", "mlflow")
    report.put("Half a year of a model in use", body(weeks, (before, after), described))
    return 0


if __name__ == "__main__":
    sys.exit(main())
