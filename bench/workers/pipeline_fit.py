"""Epochs of the pipeline's fit: `python -m bench.workers.pipeline_fit plain 128`, or `augmented 384` as in params.yaml."""

import sys
from pathlib import Path

import numpy as np

from bench.workers.rounds import Rounds
from pipeline.core import params
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.training import tensorflow_setup

EPOCHS = 1000  # more than there are rounds
NO_AUGMENTATION = {"rotation": 0, "scale": 0, "shear": 0, "shift": 0, "elastic": 0}


def main(kind: str, batch: int) -> None:
    read = params.load(Path("params.yaml"))
    augmentation = read.train.augmentation.model_copy(update=NO_AUGMENTATION if kind == "plain" else {})
    train = read.train.model_copy(update={"epochs": EPOCHS, "batch_size": batch, "augmentation": augmentation})
    data = datasets.load(Paths(), "train")
    parts = np.arange(len(data.labels)), np.arange(0)
    with tensorflow_setup.lean_tensorflow(train.threads):
        from pipeline.training import fit, network
    model = network.build(read.model, data.images.shape[1:], len(read.fetch.classes), train.seed)
    rounds = Rounds()

    def epoch_ended(number: int, metrics: dict[str, float]) -> None:
        if number > 1:
            rounds.done()
        if not rounds.wait():
            raise SystemExit

    fit.fit(model, data, parts, train, epoch_ended)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
