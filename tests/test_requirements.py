"""The locks: every package by its hash, extras apart from what the pipeline needs, and all of one mind."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

from tests.imports import ROOT

BASE = ROOT / "requirements.txt"
EXTRAS = sorted((ROOT / "requirements").glob("*.txt"))


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PYTHONS = ("3.11", "3.12", "3.13")


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
def test_a_lock_takes_nothing_that_another_has_in_another_version(path: Path) -> None:
    """`make test` installs them all into one environment, one after the other."""
    lock, others = pinned(path), {other.name: pinned(other) for other in (BASE, *EXTRAS)}

    differing = [
        (name, other)
        for other, pins in others.items()
        for name, versions in lock.items()
        if not versions <= pins.get(name, versions)
    ]
    assert differing == []


def test_the_pipeline_does_not_need_what_extras_bring() -> None:
    apart = {"atheris", "boto3", "dvc-s3", "dvc-ssh", "flask-wtf", "moto", "optuna", "psycopg", "ray", "torch", "jax"}

    assert not apart & pinned(BASE).keys()
    brought = {name for path in EXTRAS for name in pinned(path)}
    assert {"atheris", "boto3", "dvc-s3", "dvc-ssh", "flask-wtf", "moto", "optuna", "psycopg", "ray"} <= brought


def asked_for() -> dict[Path, list[str]]:
    """The requirements of pyproject.toml, by the lock that has to satisfy them, as `make lock` compiles them."""
    base, optional = PROJECT["project"]["dependencies"], PROJECT["project"]["optional-dependencies"]
    extras = {"serve": base} | {name: [*base, *optional[name]] for name in optional if name not in ("train", "dev")}
    found = {ROOT / "requirements" / f"{name}.txt": lines for name, lines in (extras | PROJECT["dependency-groups"]).items()}
    return found | {BASE: [*base, *optional["train"], *optional["dev"]]}


def pins(path: Path) -> list[Requirement]:
    """The lines of a lock, with the Pythons for which each holds."""
    return [Requirement(line) for line in re.findall(r"^([a-z0-9][^\\\n]*==[^\\\n]*?) *\\?$", path.read_text(), re.MULTILINE)]


def meant(requirement: Requirement, python: str) -> bool:
    environment: Any = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    return requirement.marker is None or requirement.marker.evaluate(environment)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("path", [BASE, *EXTRAS], ids=lambda path: path.name)
def test_a_lock_pins_each_requirement_once_and_as_pyproject_bounds_it(path: Path, python: str) -> None:
    locked: dict[str, list[str]] = {}
    for pin in pins(path):
        if meant(pin, python):
            locked.setdefault(canonicalize_name(pin.name), []).append(str(pin.specifier).removeprefix("=="))

    assert {name: versions for name, versions in locked.items() if len(versions) != 1} == {}
    required = [line for line in map(Requirement, asked_for()[path]) if meant(line, python)]
    assert required
    for requirement in required:
        versions = locked.get(canonicalize_name(requirement.name), [])
        assert [requirement.specifier.contains(version) for version in versions] == [True], f"{requirement}: {versions}"


def test_the_file_of_versions_agrees_with_the_lock() -> None:
    command = [sys.executable, str(ROOT / "requirements" / "write_versions.py")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert (ROOT / "requirements" / "versions.yaml").read_text(encoding="utf-8") == printed
    named = YAML(typ="safe").load(printed)
    direct = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["train"]
    assert named.keys() == {canonicalize_name(Requirement(line).name) for line in direct}
    locked = pinned(BASE)
    for name, versions in named.items():
        assert {versions} if isinstance(versions, str) else set(versions) == locked[name], name


def test_every_lock_is_of_something_that_pyproject_names() -> None:
    assert asked_for().keys() == {BASE, *EXTRAS}


def test_what_the_linter_is_told_to_pass_over_has_its_reason_beside_it() -> None:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    lines = [line for name in listed for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    passed = [line for line in lines if "# noqa" in line and '"# noqa" in' not in line and "re.search" not in line]

    assert [line for line in passed if not re.search(r"# noqa: [A-Z0-9, ]+ - \S", line)] == []
