"""Print the accuracy, the path of the model, how to see the results, and what to commit and push.

`make repro` ends with this.

Example:
    python -m pipeline.summary
"""

import argparse
import sys

from pipeline.core import console, files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.core.urls import redacted
from pipeline.data import datasets
from pipeline.promotion import dvc_remote
from pipeline.promotion.errors import RepositoryError
from pipeline.promotion.repository import Repository
from pipeline.tracking import sqlite_store

_MISSING = "not in the MLflow store: `make register` adds it"


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    metrics = files.read_json(paths.metrics)
    images = datasets.read_manifest(paths)["files"]["test_images"]["shape"][0]
    int8 = f" ({metrics['int8']['accuracy']:.2%} in int8)" if "int8" in metrics else ""
    console.echo("accuracy", f"{metrics['accuracy']:.2%} on {images:,} test images{int8}")
    name, version = params.tracking.model, registered_version(params, paths)
    console.echo("model", f"{paths.onnx}, " + (f"registered as {name} version {version}" if version else _MISSING))
    console.echo("results", "`make ui` shows the run, its curves and plots")
    if changed := uncommitted(paths):
        console.echo("commit", f"`git add {' '.join(changed)} && git commit` lets you restore these results at any time")
        if remote := dvc_remote.address(paths.root.absolute()):
            console.echo(
                "push", f"`dvc push` copies the outputs to {redacted(remote)}, where everybody with that commit finds them"
            )
    return 0


def uncommitted(paths: Paths) -> list[str]:
    """The files that `dvc repro` wrote for git, and params.yaml, if they differ from the last commit.

    None if only params.yaml does, or if git cannot tell.
    """
    repository = Repository(paths.root.absolute())
    try:
        written = repository.published_files()
        return repository.changed([*written, paths.params.name]) if repository.changed(written) else []
    except RepositoryError:
        return []


def registered_version(params: Params, paths: Paths) -> int | None:
    """The version that the store has for the model of this tree; None if DVC restored a result that another store has."""
    name = params.tracking.model
    if database := sqlite_store.database(paths.tracking_uri):
        return sqlite_store.newest_version(database, name, files.sha256(paths.onnx))
    from pipeline.tracking import registration, registry
    from pipeline.tracking.connection import connected

    with connected(params, paths):
        return max((version.number for version in registry.versions_of(name, registration.hashes(paths))), default=None)


if __name__ == "__main__":
    parser = console.parser("summary", __doc__)
    sys.exit(console.run_command(parser, run))
