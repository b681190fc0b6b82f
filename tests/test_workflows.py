"""The CI files are valid, use the least privilege and pinned actions, put no input into a shell line, and call only make."""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from ruamel.yaml import YAML

from pipeline.core.params import PromoteParams
from tests.imports import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
GITLAB = ROOT / ".gitlab-ci.yml"
CHECKED = ROOT / ".github" / "action-versions.yaml"


WRITING = {"retrain": {"contents": "write"}, "alert": {"contents": "read", "issues": "write"}}


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
        ("vendor.dependabot", ROOT / ".github" / "dependabot.yml", []),
        ("vendor.citation-file-format", ROOT / "CITATION.cff", []),
        *(("vendor.github-issue-forms", path, []) for path in sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))),
    ],
    ids=str,
)
def test_the_files_match_the_schema_of_their_service(schema: str, file: Path, options: list[str]) -> None:
    command = [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", schema, *options, str(file)]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


def test_zizmor_finds_no_weakness() -> None:
    command = [Path(sys.executable).with_name("zizmor"), "--offline", "--no-progress", str(ROOT / ".github")]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_steps_call_only_make_without_expressions_in_the_shell(path: Path) -> None:
    lines = [line for step in steps(path) for line in step.get("run", "").splitlines()]

    assert lines
    assert [line for line in lines if not re.fullmatch(r'make( [a-z]+)+( ([A-Z]+)="\$\3")*', line)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(path: Path) -> None:
    used = [step["uses"] for step in steps(path) if "uses" in step]

    assert used
    assert [name for name in used if not re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", name)] == []


def test_each_pinned_action_has_the_major_version_that_was_checked() -> None:
    lines = [line for path in WORKFLOWS for line in path.read_text(encoding="utf-8").splitlines() if "uses:" in line]
    pinned = {re.search(r"uses: ([\w/-]+)@\w+ # v(\d+)\.", line) for line in lines}

    assert all(pinned), lines
    assert {(pin[1], int(pin[2])) for pin in pinned if pin} == set(loaded(CHECKED)["actions"].items())


@pytest.mark.skipif(os.environ.get("GITHUB_EVENT_NAME") != "schedule", reason="time alone makes it fail")
def test_the_pinned_actions_were_checked_in_the_last_180_days() -> None:
    age = datetime.now(UTC).date() - loaded(CHECKED)["checked"]

    assert age.days <= 180, f"{CHECKED}: check the actions again, as its first lines say"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_jobs_have_the_least_privilege_and_a_time_limit(path: Path) -> None:
    workflow, most = loaded(path), 300 if path.stem == "chaos" else 60

    assert workflow["permissions"] == {"contents": "read"}
    assert "concurrency" in workflow
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= most
        assert job.get("permissions", {}) == WRITING.get(name, {})


def test_jobs_of_pull_requests_get_no_secrets() -> None:
    for path in WORKFLOWS:
        for job in loaded(path)["jobs"].values():
            if "secrets." in str(job):
                assert "github.event_name" in job["if"]
                assert "pull_request" not in job["if"]


def test_a_commit_runs_what_ci_lints() -> None:
    (repository,) = loaded(ROOT / ".pre-commit-config.yaml")["repos"]
    (hook,) = repository["hooks"]
    linting = [
        step["run"] for step in loaded(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["lint"]["steps"] if "run" in step
    ]

    assert (repository["repo"], hook["language"], hook["pass_filenames"]) == ("local", "system", False)
    assert [hook["entry"]] == linting == ["make lint"]


def test_the_development_container_sets_up_a_supported_python_and_forwards_every_port() -> None:
    content = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    verbs = [path.read_text(encoding="utf-8") for path in (ROOT / "pipeline").glob("*.py")]
    ports = {int(port) for verb in verbs for port in re.findall(r'"--port", type=int, default=(\d+)', verb)}
    python = re.search(r":(3\.\d+)-", content["image"])

    assert content["postCreateCommand"] == "make setup"
    assert content["remoteEnv"]["PATH"].startswith("${containerWorkspaceFolder}/.venv/bin:")
    assert python
    assert python[1] in {"3.11", "3.12", "3.13"}
    assert len(ports) >= 3
    assert set(content["forwardPorts"]) == ports == set(map(int, content["portsAttributes"]))


def test_every_make_target_that_ci_calls_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    called = {name for path in (*WORKFLOWS, GITLAB) for name in re.findall(r"make ([a-z ]*[a-z])\b", path.read_text())}

    assert {name for names in called for name in names.split()} <= targets


def test_retrain_offers_the_values_of_promote_require() -> None:
    inputs = loaded(ROOT / ".github" / "workflows" / "retrain.yml")["on"]["workflow_dispatch"]["inputs"]

    assert inputs["require"]["options"] == ["", *get_args(PromoteParams.model_fields["require"].annotation)]


def test_the_tests_run_on_every_supported_python() -> None:
    matrix = loaded(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    pythons = matrix["python"]

    assert pythons == ["3.11", "3.12", "3.13"]
    assert [extra["os"].partition("-")[0] for extra in matrix["include"]] == ["macos"]
    assert loaded(GITLAB)["test"]["parallel"]["matrix"] == [{"PYTHON_VERSION": pythons}]
