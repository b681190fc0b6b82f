"""The index of verbs, and the help of each."""

import subprocess
import sys

import pytest
from ruamel.yaml import YAML

from pipeline import __main__ as index
from tests.imports import ROOT


def python(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_index_lists_every_verb_with_a_line_and_imports_none() -> None:
    code = "import runpy, sys; runpy.run_module('pipeline', run_name='__main__'); print('numpy' in sys.modules)"
    *lines, imported = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()

    listed = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines if line.startswith("  ")}
    assert listed == index.summaries()
    assert all(len(line) < 110 for line in lines)
    assert imported == "False"


def test_stages_come_first_in_the_order_of_the_pipeline() -> None:
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]

    assert list(stages) == list(index.STAGES) == list(index.summaries())[: len(index.STAGES)]


@pytest.mark.parametrize("verb", index.summaries())
def test_help_shows_what_a_verb_does_its_options_and_an_example(verb: str) -> None:
    done = python(f"pipeline.{verb}", "--help")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: python -m pipeline.{verb} ")
    assert f"\n{index.summaries()[verb]}\n" in done.stdout
    assert f"\nExample:\n    python -m pipeline.{verb}" in done.stdout
    assert "  --debug " in done.stdout
