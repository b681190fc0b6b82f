"""`make compare`: what a change of the tree does to the model, on real models, with git and DVC."""

import argparse
from contextlib import chdir
from pathlib import Path

import numpy as np
import onnx
import pytest

from pipeline import compare
from pipeline.core import files
from pipeline.core import params as parameters
from pipeline.core.paths import Paths
from pipeline.data.datasets import Split
from tests.clones import clone_with_outputs, git
from tests.conftest import Repository, edit_params


def compared(root: Path, base: str, capfd: pytest.CaptureFixture[str]) -> str:
    """What the command prints, run in the tree at `root`."""
    with chdir(root):
        assert compare.run(argparse.Namespace(base=base), parameters.load(Path("params.yaml")), Paths()) == 0
    return capfd.readouterr().out


def damage(path: Path) -> None:
    """Replace the first layer's weights with noise."""
    model = onnx.load(path)
    largest = max(model.graph.initializer, key=lambda each: len(each.raw_data))
    noise = np.random.default_rng(0).normal(size=len(largest.raw_data) // 4).astype(np.float32)
    largest.raw_data = noise.tobytes()
    path.unlink()
    onnx.save(model, path)


def test_the_page_shows_what_differs_from_the_base(
    built: Repository,
    subset: dict[str, Split],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    clone = clone_with_outputs(built, tmp_path / "clone", subset, {}, "fetch", "validate", "train", "export", "evaluate")
    paths = clone.paths
    git(paths.root, "add", "--all")
    git(paths.root, "commit", "--quiet", "--message", "base")

    same = compared(paths.root, "HEAD", capfd)

    assert "The model is the same, byte for byte." in same
    assert "make repro" not in same
    assert same.count("differs.") == 2

    damage(paths.onnx)
    edit_params(paths.params, {"train.epochs": 99})
    metrics = files.read_json(paths.metrics)
    files.write_json(paths.metrics, metrics | {"accuracy": 0.125})
    for name, value in {
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_REPOSITORY": "owner/project",
        "GITHUB_RUN_ID": "7",
    }.items():
        monkeypatch.setenv(name, value)

    page = compared(paths.root, "HEAD", capfd)

    assert "⚠️ Run `make repro` first: `evaluate`, `export`, `train` did not run since the last change." in page
    assert f"| `train.epochs` | {built.params.train.epochs} | 99 |" in page
    assert f"| `accuracy` | {metrics['accuracy']:.6g} | 0.125 |" in page
    assert "The model is **⚠️ significantly worse** (alpha 0.05)." in page
    assert f"against {metrics['accuracy']:.2%} of HEAD; exactly one of the two is right on" in page
    assert "(https://github.com/owner/project/actions/runs/7#artifacts)" in page
    assert (tmp_path / "summary.md").read_text() == page
