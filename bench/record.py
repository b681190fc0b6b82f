"""The record: the same network, fitted for three minutes, with five seeds.

`make record` runs bench/record.yaml as DVC experiments record-0 to record-4, and writes their test accuracy to
bench/results.md. `python -m bench.record --validate` fits on 50,000 training images and measures on the other 10,000.
The choices in record.yaml are based on these results, never on the test split.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from scipy import stats

from bench import report
from pipeline.core import params
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.evaluation import metrics
from pipeline.training import tensorflow_setup

SEEDS = range(5)
OVERRIDES = Path(__file__).with_name("record.yaml")
MINUTES, TARGET = 3, 0.993
VALIDATION = 1 / 6

# Test errors on MNIST in percent, as published. "Best Practices for Convolutional Neural Networks Applied to Visual Document
# Analysis", ICDAR 2003; "Deep, Big, Simple Neural Nets for Handwritten Digit Recognition", Neural Computation 22, 2010.
PUBLISHED = [
    ["784-800-10, no distortions", "636,010", "1.6", "Simard, Steinkraus and Platt, 2003"],
    ["784-800-10, affine distortions", "636,010", "1.1", "Simard, Steinkraus and Platt, 2003"],
    ["784-800-10, elastic distortions", "636,010", "0.7", "Simard, Steinkraus and Platt, 2003"],
    ["841-1000-500-10, elastic and affine distortions", "1,347,510", "0.49", "Cireşan and others, 2010"],
]


class Result(NamedTuple):
    """The result of one seed on the test split."""

    accuracy: float
    int8_accuracy: float
    seconds: float  # of fitting


def overrides() -> dict[str, Any]:
    """The differences from params.yaml, by dotted name."""
    return dict(_flat(YAML(typ="safe").load(OVERRIDES), ""))


def _flat(content: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def experiment(seed: int) -> Result:
    """Run the DVC experiment of a seed in a copy of the tree, and read its results.

    Raises:
        subprocess.CalledProcessError: the experiment failed.
    """
    from dvc.api import DVCFileSystem

    name = f"record-{seed}"
    settings = overrides() | {"train.seed": seed}
    options = [f"--set-param={key}={value}" for key, value in settings.items()]
    command = [sys.executable, "-m", "dvc", "exp", "run", "--temp", "--force", "--name", name, *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    tree = DVCFileSystem(".", rev=name)
    read = YAML(typ="safe").load
    measured, run = (read(tree.read_text(str(path))) for path in (Paths().metrics, Paths().run))
    return Result(measured["accuracy"], measured["int8"]["accuracy"], run["fit_seconds"])


def validate(seed: int) -> tuple[float, float, float]:
    """Accuracy and log loss on held-out training images of a network fitted on the others, and the seconds of the fit."""
    content = YAML(typ="safe").load(Path("params.yaml"))
    for name, value in overrides().items():
        *sections, key = name.split(".")
        section = content
        for each in sections:
            section = section[each]
        section[key] = value
    content["train"]["seed"], content["train"]["validation_split"] = seed, VALIDATION
    read, paths = params.Params.model_validate(content), Paths()
    data, parts = datasets.load(paths, "train"), datasets.hold_out(datasets.train_rows(paths), VALIDATION)
    with tensorflow_setup.lean_tensorflow(read.train.threads):
        from pipeline.training import fit, network
    model = network.build(read.model, data.images.shape[1:], len(read.fetch.classes), seed)
    start = time.perf_counter()
    fit.fit(model, data, parts, read.train, lambda number, metrics: None)
    seconds = time.perf_counter() - start
    probabilities = model.predict(data.images[parts[1]], batch_size=2000, verbose=0)
    labels = data.labels[parts[1]]
    return metrics.accuracy(labels, probabilities), metrics.log_loss(labels, probabilities), seconds


def section(results: list[Result]) -> str:
    """The table of the seeds, their mean with its confidence interval, and published results."""
    accuracies = [result.accuracy for result in results]
    mean = statistics.mean(accuracies)
    half = stats.t.ppf(0.975, len(results) - 1) * statistics.stdev(accuracies) / len(results) ** 0.5
    rows = [
        [str(seed), f"{result.accuracy:.2%}", f"{result.int8_accuracy:.2%}", f"{result.seconds:.0f}"]
        for seed, result in zip(SEEDS, results, strict=True)
    ]
    longest = max(result.seconds for result in results)
    reached = "met" if mean >= TARGET else "**not met**"
    in_time = "met" if longest <= 60 * MINUTES else "**not met**"
    return (
        f"{report.machine('make record', 'tensorflow', 'keras')}\n\n"
        f"{report.table(['seed', 'accuracy on the test split', 'in int8', 'seconds of fitting'], rows)}\n\n"
        f"Mean {mean:.3%}, 95 % interval {mean - half:.2%} to {mean + half:.2%} (Student's t, over seeds). "
        f"At least {TARGET:.2%}: {reached}. At most {MINUTES} minutes of fitting: {in_time}, {longest:.0f} s.\n\n"
        f"Published for dense networks:\n\n"
        f"{report.table(['network', 'parameters', 'test error, %', 'by'], PUBLISHED)}\n\n"
        f"This one, 784-256-10 with 203,530 parameters: {100 * (1 - mean):.2f} %.\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.record", description=__doc__)
    parser.add_argument("--validate", action="store_true", help="measure on held-out training images instead")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="number of seeds to validate with")
    options = parser.parse_args()
    if options.validate:
        for seed in range(options.seeds):
            accuracy, loss, seconds = validate(seed)
            print(f"seed {seed}: accuracy {accuracy:.2%}, log loss {loss:.4f}, {seconds:.0f} s", flush=True)
        return 0
    report.put("The record", section([experiment(seed) for seed in SEEDS]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
