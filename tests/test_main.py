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


@pytest.mark.parametrize("verb", ["train", "predict"])  # a stage and a command
def test_a_verb_is_run_by_its_name_alone_and_says_so(verb: str) -> None:
    done, wrong = python("pipeline", verb, "--help"), python("pipeline", verb, "--wrong")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: python -m pipeline {verb} ")
    assert f"\nExample:\n    python -m pipeline {verb}" in done.stdout
    assert wrong.returncode == 2
    assert f"python -m pipeline {verb}: error: " in wrong.stderr


def test_an_unknown_verb_exits_with_2_and_the_verbs_there_are() -> None:
    done = python("pipeline", "trian", "--debug")

    assert done.returncode == 2
    assert "invalid choice: 'trian' (choose from" in done.stderr
    assert "train" in done.stderr.partition("choose from")[2]


@pytest.mark.parametrize("name", ["-m", "/usr/bin/mnist-pipeline"])
def test_a_verb_whose_packages_are_not_installed_names_the_package(name: str) -> None:
    code = (
        f"import sys; sys.modules['pandas'] = None; sys.argv = [{name!r}, 'validate']; import pipeline.__main__ as m; m.main()"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: pandas: expected this package, found none.\n")
