"""Show what this tree changes about the model against another git revision, as Markdown.

Run `dvc repro` first. The page has the parameters, the metrics, and the paired test. The model of the other revision comes
from the DVC cache or remote, or is rebuilt. On GitHub the page goes to the job's summary.

Example:
    python -m pipeline.compare main
"""

import argparse
import json
import sys
from typing import Any

import numpy as np

from pipeline.core import console, files
from pipeline.core.errors import PipelineError, first_line
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.inference import onnx_model
from pipeline.promotion import base_model, git_tags, github_job, model_changes
from pipeline.promotion.model_changes import Changes
from pipeline.promotion.repository import Repository

_ARTIFACT = "evaluation"  # as ci.yml calls it


def run(options: argparse.Namespace, params: Params, paths: Paths) -> int:
    repository = Repository(paths.root.absolute())
    commit = repository.git("rev-parse", "--verify", f"{options.base}^{{commit}}")
    files.require(paths.metrics)
    changes = Changes(
        base=options.base,
        outdated=outdated(repository),
        params=differences(repository, "params", commit),
        metrics=differences(repository, "metrics", commit),
        verdict=verdict(repository, options.base, commit, params, paths),
        pictures=pictures(paths),
    )
    page = model_changes.page(changes)
    print(page, end="")
    github_job.show(page)
    return 0


def outdated(repository: Repository) -> list[str]:
    """The names of the stages up to evaluate that `dvc repro` would run."""
    return sorted(json.loads(repository.dvc("status", "--json", "--with-deps", "evaluate") or "{}"))


def differences(repository: Repository, kind: str, commit: str) -> Any:
    """What `dvc params diff` or `dvc metrics diff` finds between the commit and this tree."""
    return json.loads(repository.dvc(kind, "diff", "--json", commit) or "{}")


def verdict(repository: Repository, base: str, commit: str, params: Params, paths: Paths) -> str:
    """One paragraph: the same model, the paired test, or why both cannot be compared."""
    if git_tags.locked_md5(repository.root, commit, paths.onnx.absolute()) == files.md5(paths.onnx):
        return "The model is the same, byte for byte."
    test = datasets.load(paths, "test")

    def correct(path: Any) -> Any:
        model = onnx_model.open_for(path, test.images, params.fetch.classes)
        return np.asarray(model.predict(test.images).argmax(axis=1) == test.labels)

    try:
        with base_model.checked_out(repository, commit) as path:
            if files.md5(path) == files.md5(paths.onnx):
                return "The model is the same, byte for byte."
            return model_changes.verdict(correct(paths.onnx), correct(path), base, params.promote)
    except PipelineError as error:
        return f"The models cannot be compared on the test images of this tree: {first_line(error)}"


def pictures(paths: Paths) -> str:
    if address := github_job.run_address():
        return f"They are in the artifact `{_ARTIFACT}` of [this run]({address}#artifacts), with the model card."
    return f"They are in `{paths.plots}/`."


if __name__ == "__main__":
    parser = console.parser("compare", __doc__)
    parser.add_argument("base", help="the revision to compare with: a branch, a tag or a commit")
    sys.exit(console.run_command(parser, run))
