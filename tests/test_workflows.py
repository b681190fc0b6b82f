"""What the CI files promise: valid, least privilege, pinned, no input in a shell line, and nothing but make."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.imports import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
GITLAB = ROOT / ".gitlab-ci.yml"


def loaded(path: Path) -> Any:
    return YAML(typ="safe").load(path)


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in loaded(path)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize(
    ("schema", "file", "options"),
    [
        *(("vendor.github-workflows", path, []) for path in WORKFLOWS),
        ("vendor.gitlab-ci", GITLAB, ["--data-transform", "gitlab-ci"]),
        ("vendor.compose-spec", ROOT / "team" / "compose.yaml", []),
    ],
    ids=str,
)
def test_the_files_are_what_their_service_reads(schema: str, file: Path, options: list[str]) -> None:
    command = [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", schema, *options, str(file)]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


def test_an_auditor_finds_nothing_that_an_attacker_could_use() -> None:
    command = [Path(sys.executable).with_name("zizmor"), "--offline", "--no-progress", str(ROOT / ".github")]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_steps_call_make_alone_with_no_expression_in_the_shell(path: Path) -> None:
    lines = [line for step in steps(path) for line in step.get("run", "").splitlines()]

    assert lines
    assert [line for line in lines if not re.fullmatch(r"make( [a-z]+)+", line)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(path: Path) -> None:
    used = [step["uses"] for step in steps(path) if "uses" in step]

    assert used
    assert [name for name in used if not re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", name)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_privileges_are_the_least_and_every_job_ends(path: Path) -> None:
    workflow = loaded(path)

    assert workflow["permissions"] == {"contents": "read"}
    assert "concurrency" in workflow
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 60
        assert job.get("permissions", {}) == ({"contents": "write"} if name == "retrain" else {})


def test_secrets_are_named_and_reach_no_job_of_a_pull_request() -> None:
    for path in WORKFLOWS:
        for job in loaded(path)["jobs"].values():
            if "secrets." in str(job):
                assert "github.event_name" in job["if"]
                assert "pull_request" not in job["if"]


def test_every_target_that_ci_calls_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    called = {name for path in (*WORKFLOWS, GITLAB) for name in re.findall(r"make ([a-z ]+)$", path.read_text(), re.MULTILINE)}

    assert {name for names in called for name in names.split()} <= targets


def test_the_tests_run_on_every_python_that_is_supported() -> None:
    pythons = loaded(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]

    assert pythons == ["3.11", "3.12", "3.13"]
    assert loaded(GITLAB)["test"]["parallel"]["matrix"] == [{"PYTHON_VERSION": pythons}]
