"""Whole commands against their minimum, in clones of what is committed: `python -m bench.commands`."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from bench import report
from bench.rows import Row, seconds, table
from bench.turns import alternate, ratio
from pipeline.core import params

ROUNDS = 5
BARE = Path(__file__).with_name("bare.py")
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
ENVIRONMENT["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

# What a stage cannot do without, imported as anyone would.
IMPORTS = {
    "fetch": "numpy, pydantic",
    "validate": "great_expectations",
    "train": "tensorflow, mlflow",
    "export": "tensorflow, tf2onnx, onnxruntime",
    "evaluate": "onnxruntime, matplotlib.pyplot",
    "explain": "onnxruntime",
    "register": "mlflow, onnx",
}
PLAIN = {
    "train.epochs": 5,
    "train.batch_size": 128,
    "train.learning_rate": 0.001,
    **{f"train.augmentation.{name}": 0 for name in ("rotation", "scale", "shear", "shift", "elastic")},
}


def timed(folder: Path, *command: str) -> float:
    """Seconds that a command takes.

    Raises:
        RuntimeError: it failed.
    """
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} exited with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - start


def dvc(folder: Path, *arguments: str) -> Callable[[], float]:
    return lambda: timed(folder, sys.executable, "-m", "dvc", *arguments)


def python(folder: Path, *arguments: str) -> Callable[[], float]:
    return lambda: timed(folder, sys.executable, *arguments)


def in_turn(contenders: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Seconds of each, `ROUNDS` times, one after the other."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, contender in contenders.items():
            taken[name].append(contender())
    return taken


def clone(folder: Path, changes: Mapping[str, Any]) -> Path:
    """A clone of what is committed here, with other parameters, built once."""
    timed(Path(), "git", "clone", "--quiet", ".", str(folder))
    path, yaml = folder / "params.yaml", YAML()
    content = yaml.load(path)
    for name, value in changes.items():
        *sections, key = name.split(".")
        section = content
        for each in sections:
            section = section[each]
        section[key] = value
    yaml.dump(content, path)
    dvc(folder, "repro")()
    return folder


def emptied(built: Path, folder: Path) -> Path:
    """A pipeline of the same shape, whose stages do nothing: what DVC itself takes."""
    shutil.copytree(built, folder, symlinks=True)
    path, yaml = folder / "dvc.yaml", YAML()
    content = yaml.load(path)
    for stage in content["stages"].values():
        stage["cmd"] = "true"
        for kind in ("outs", "metrics", "plots"):
            if kind in stage:
                stage[kind] = [_persistent(entry) for entry in stage[kind]]
    yaml.dump(content, path)
    dvc(folder, "repro", "--force")()
    return folder


def _persistent(entry: Any) -> Any:
    ((name, options),) = entry.items() if isinstance(entry, dict) else [(entry, {})]
    return {name: {**options, "persist": True}}


def whole(built: Path, empty: Path) -> tuple[Row, str]:
    """`dvc repro --force` against imports, DVC and the fit's matrix products."""
    read = params.load(built / "params.yaml").train
    imports = {f"import {names}": python(built, "-c", f"import {names}") for names in IMPORTS.values()}
    taken = in_turn({"dvc repro --force": dvc(built, "repro", "--force"), "DVC": dvc(empty, "repro", "--force"), **imports})
    products = alternate({"products": ["products", "training", str(read.batch_size)]}, rounds=ROUNDS)["products"]
    fit = statistics.median(products) * read.epochs * (1 - read.validation_split)
    minimum = [fit + sum(taken[name][turn] for name in taken if name != "dvc repro --force") for turn in range(ROUNDS)]
    found = taken | {"the fit's matrix products": [fit], "floor": minimum}
    row = Row("time of `dvc repro --force`", "its floor", ratio(found, "dvc repro --force", "floor"), most=1.25)
    return row, seconds(found)


def short(plain: Path) -> tuple[Row, str]:
    """The pipeline with 5 plain epochs against the bare script."""
    pipeline, bare = "dvc repro --force, 5 plain epochs", "bare.py"
    taken = in_turn({pipeline: dvc(plain, "repro", "--force"), bare: python(plain, str(BARE))})
    what = ratio(taken, pipeline, bare)
    return Row("time of `dvc repro --force`, 5 plain epochs", "the bare script", what, most=1.0), seconds(taken)


def nothing(built: Path, empty: Path) -> tuple[Row, str]:
    taken = in_turn({"dvc repro, nothing to do": dvc(built, "repro"), "the empty pipeline's": dvc(empty, "repro")})
    what = ratio(taken, "dvc repro, nothing to do", "the empty pipeline's")
    return Row("time of `dvc repro`, nothing to do", "DVC on an empty pipeline", what, most=1.2), seconds(taken)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        built, plain = clone(root / "built", {}), clone(root / "plain", PLAIN)
        empty = emptied(built, root / "empty")
        parts = [nothing(built, empty), short(plain), whole(built, empty)]
    described = report.machine("python -m bench.commands", "tensorflow", "mlflow", "great-expectations", "dvc")
    figures = "\n\n".join(figures for _, figures in parts)
    report.put("Whole commands", f"{described}\n\n{table([row for row, _ in parts])}\n\n{figures}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
