"""The locks: every package by its hash, extras apart from what the pipeline needs, and all of one mind."""

import re
from pathlib import Path

import pytest

from tests.imports import ROOT

BASE = ROOT / "requirements.txt"
EXTRAS = sorted((ROOT / "requirements").glob("*.txt"))


def pinned(path: Path) -> dict[str, set[str]]:
    """The versions of each package in a lock; more than one where they differ by Python's version."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([a-z0-9][a-z0-9.-]*)(?:\[[^]]*\])?==([^ \\]+)", path.read_text(), re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


@pytest.mark.parametrize("path", [BASE, *EXTRAS], ids=lambda path: path.name)
def test_every_package_is_locked_by_hash_and_no_index_is_named(path: Path) -> None:
    blocks = re.split(r"\n(?=[a-z0-9])", re.sub(r"^ *#.*\n", "", path.read_text(), flags=re.MULTILINE).strip())

    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in path.read_text()


@pytest.mark.parametrize("path", EXTRAS, ids=lambda path: path.name)
def test_an_extra_takes_nothing_that_is_there_in_another_version(path: Path) -> None:
    base, extra = pinned(BASE), pinned(path)

    assert {name: versions for name, versions in extra.items() if not versions <= base.get(name, versions)} == {}


def test_the_pipeline_does_not_need_what_extras_bring() -> None:
    apart = {"atheris", "dvc-s3", "dvc-ssh", "flask-wtf", "optuna", "psycopg", "ray", "torch", "jax"}

    assert not apart & pinned(BASE).keys()
    brought = {name for path in EXTRAS for name in pinned(path)}
    assert {"atheris", "dvc-s3", "dvc-ssh", "flask-wtf", "optuna", "psycopg", "ray"} <= brought
