"""Time whole commands against a lower bound, in clones of the current commit: `python -m bench.commands`."""

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
from bench.interleave import interleave, ratio
from bench.rows import Row, seconds, table
from pipeline.core import params

ROUNDS = 5
BARE = Path(__file__).with_name("bare.py")
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
ENVIRONMENT["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

# The imports that each stage needs, without any optimization.
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
    """Run a command and return its seconds.

    Raises:
        RuntimeError: the command failed.
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


def interleaved(contenders: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Return the seconds of each contender in `ROUNDS` interleaved rounds."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, contender in contenders.items():
            times[name].append(contender())
    return times


def clone(folder: Path, changes: Mapping[str, Any]) -> Path:
    """Clone the current commit, change parameters, and run the pipeline once."""
    timed(Path(), "git", "clone", "--quiet", ".", str(folder))
    path, yaml = folder / "params.yaml", YAML()
    content = yaml.load(path)
    for name, value in changes.items():
        *sections, key = name.split(".")
        section = content
        for parent in sections:
            section = section[parent]
        section[key] = value
    yaml.dump(content, path)
    dvc(folder, "repro")()
    return folder


def empty_copy(built: Path, folder: Path) -> Path:
    """Copy the pipeline with commands that do nothing, to measure the overhead of DVC."""
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


def repro_forced(built: Path, empty: Path) -> tuple[Row, str]:
    """`dvc repro --force` against its lower bound: imports, DVC and the matrix products of the fit."""
    read = params.load(built / "params.yaml").train
    imports = {f"import {names}": python(built, "-c", f"import {names}") for names in IMPORTS.values()}
    times = interleaved(
        {"dvc repro --force": dvc(built, "repro", "--force"), "DVC": dvc(empty, "repro", "--force"), **imports}
    )
    products = interleave({"products": ["products", "training", str(read.batch_size)]}, rounds=ROUNDS)["products"]
    fit = statistics.median(products) * read.epochs * (1 - read.validation_split)
    lower_bound = [fit + sum(times[name][number] for name in times if name != "dvc repro --force") for number in range(ROUNDS)]
    times |= {"matrix products of the fit": [fit], "lower bound": lower_bound}
    row = Row("time of `dvc repro --force`", "lower bound", ratio(times, "dvc repro --force", "lower bound"), most=1.25)
    return row, seconds(times)


def repro_short(plain: Path) -> tuple[Row, str]:
    """The pipeline with 5 epochs without augmentation against the minimal script."""
    pipeline, bare = "dvc repro --force, 5 epochs without augmentation", "bare.py"
    times = interleaved({pipeline: dvc(plain, "repro", "--force"), bare: python(plain, str(BARE))})
    factor = ratio(times, pipeline, bare)
    return Row("time of `dvc repro --force`, 5 epochs without augmentation", "minimal script", factor, most=1.0), seconds(
        times
    )


def repro_unchanged(built: Path, empty: Path) -> tuple[Row, str]:
    """`dvc repro` with nothing to do, against DVC on an empty pipeline."""
    times = interleaved({"dvc repro, nothing to do": dvc(built, "repro"), "empty pipeline": dvc(empty, "repro")})
    factor = ratio(times, "dvc repro, nothing to do", "empty pipeline")
    return Row("time of `dvc repro`, nothing to do", "DVC on an empty pipeline", factor, most=1.2), seconds(times)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        built, plain = clone(root / "built", {}), clone(root / "plain", PLAIN)
        empty = empty_copy(built, root / "empty")
        measured = [repro_unchanged(built, empty), repro_short(plain), repro_forced(built, empty)]
    described = report.machine("python -m bench.commands", "tensorflow", "mlflow", "great-expectations", "dvc")
    details = "\n\n".join(detail for _, detail in measured)
    report.put("Whole commands", f"{described}\n\n{table([row for row, _ in measured])}\n\n{details}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
