"""The issue about the retraining: the steps of the alert jobs, with a stand-in for gh that records calls and keeps issues."""

import json
import os
import shutil
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.promotion import retrain_report
from pipeline.promotion.champions import Cycle
from pipeline.promotion.retrain_report import Outcome
from tests.imports import ROOT
from tests.test_workflows import loaded

GH = """#!{python} -IS
import json, os, pathlib, sys
folder = pathlib.Path(__file__).parent
calls, kept = folder / "calls", folder / "issues.json"
arguments = sys.argv[1:]
with calls.open("a") as log:
    log.write(json.dumps(arguments) + "\\n")
if not os.environ.get("GH_TOKEN") or os.environ.get("GH_REPO") != "owner/project":
    sys.exit("no token")
issues = json.loads(kept.read_text()) if kept.exists() else []
option = lambda name: arguments[arguments.index(name) + 1]
named = next((each for each in issues if str(each["number"]) == arguments[2:3][0]), None) if len(arguments) > 2 else None
match arguments[:2]:
    case ["issue", "list"]:
        print(json.dumps([{{key: each[key] for key in option("--json").split(",")}} for each in issues if each["open"]]))
    case ["issue", "create"]:
        issues.append({{"number": len(issues) + 1, "open": True, "title": option("--title"), "body": option("--body")}})
        print(f"https://github.com/owner/project/issues/{{len(issues)}}")
    case ["issue", "edit"]:
        named["body"] = option("--body")
    case ["issue", "close"]:
        named["open"] = False
    case ["label", "create"]:
        pass
    case _:
        sys.exit("unknown")
kept.write_text(json.dumps(issues))
"""


class Hub:
    """A checkout in which the alert jobs run, and the issues that the stand-in for gh keeps."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.binaries = folder / "checkout", folder / "bin"
        shutil.copytree(ROOT / ".ci", self.folder / ".ci")
        shutil.copy(ROOT / "Makefile", self.folder)
        self.binaries.mkdir()
        (self.binaries / "gh").write_text(GH.format(python=sys.executable))
        (self.binaries / "gh").chmod(stat.S_IRWXU)

    def alert(self, workflow: str, result: str, refused_twice: str = "") -> str:
        """Run the steps of the job `alert`, with its variables as GitHub fills them in."""
        values = {
            "${{ needs.retrain.result }}": result,
            "${{ needs.stale.result }}": result,
            "${{ needs.retrain.outputs.refused_twice }}": refused_twice,
            "${{ github.token }}": "token",
            "${{ github.repository }}": "owner/project",
        }
        run = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "owner/project", "GITHUB_RUN_ID": "7"}
        path = f"{self.binaries}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        printed = ""
        for step in loaded(ROOT / ".github" / "workflows" / workflow)["jobs"]["alert"]["steps"]:
            if "run" in step:
                filled = {key: values.get(value, value) for key, value in step["env"].items()}
                done = subprocess.run(
                    ["bash", "-euc", step["run"]],
                    cwd=self.folder,
                    env={"PATH": path, "HOME": str(self.folder), **run, **filled},
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == 0, done.stderr
                printed += done.stdout
        return printed

    def issues(self) -> list[dict[str, Any]]:
        path = self.binaries / "issues.json"
        found: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
        return found

    def open_bodies(self) -> list[str]:
        return [each["body"] for each in self.issues() if each["open"]]

    def calls(self) -> list[list[str]]:
        return [json.loads(line)[:2] for line in (self.binaries / "calls").read_text().splitlines()]


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path)


@pytest.mark.parametrize(
    ("workflow", "result", "refused_twice", "said"),
    [
        ("retrain.yml", "failure", "", "The last retraining cycle failed"),
        ("retrain.yml", "cancelled", "", "The last retraining cycle failed, or was cut off"),
        ("retrain.yml", "success", "true", "Two retraining cycles in a row refused"),
        ("ci.yml", "failure", "", "No retraining cycle ended in the last `retrain.max_age_days` days"),
    ],
)
def test_one_issue_is_opened_updated_and_closed(workflow: str, result: str, refused_twice: str, said: str, hub: Hub) -> None:
    assert "opened https://github.com/owner/project/issues/1" in hub.alert(workflow, result, refused_twice)
    assert "updated issue 1" in hub.alert(workflow, result, refused_twice)

    (issue,) = hub.issues()
    assert (issue["title"], issue["open"]) == ("Retraining needs attention", True)
    assert said in issue["body"]
    assert "https://github.com/owner/project/actions/runs/7" in issue["body"]

    assert "closed issue 1" in hub.alert(workflow, "success", "false" if refused_twice else "")
    assert hub.open_bodies() == []
    assert hub.alert(workflow, "success") == "alert     nothing to report\n"


def test_where_all_is_well_gh_is_only_asked(hub: Hub) -> None:
    hub.alert("retrain.yml", "success", "false")
    hub.alert("ci.yml", "success")

    assert hub.calls() == [["issue", "list"]] * 2


def test_a_champion_of_the_right_age_does_not_close_the_issue_about_a_failed_cycle(hub: Hub) -> None:
    hub.alert("retrain.yml", "failure")

    assert hub.alert("ci.yml", "success") == "alert     nothing to report\n"
    assert len(hub.open_bodies()) == 1


def test_the_issue_names_the_latest_trouble(hub: Hub) -> None:
    hub.alert("ci.yml", "failure")
    hub.alert("retrain.yml", "success", "true")

    (body,) = hub.open_bodies()
    assert "Two retraining cycles in a row refused" in body
    assert "max_age_days" not in body


@pytest.mark.parametrize(
    ("outcome", "before", "twice"),
    [
        (Outcome.REFUSED, "refused", "true"),
        (Outcome.REFUSED, "promoted", "false"),
        (Outcome.REFUSED, None, "false"),
        (Outcome.PROMOTED, "refused", "false"),
        (None, "refused", "false"),
    ],
)
def test_the_cycle_tells_the_job_whether_it_was_refused_twice(
    outcome: Outcome | None, before: str | None, twice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))

    retrain_report.tell_job(outcome, before and Cycle(datetime.now(UTC), before))

    assert (tmp_path / "output").read_text() == f"refused_twice={twice}\n"
