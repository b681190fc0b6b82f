"""Keep one issue about the scheduled retraining: open while something is wrong, updated in place, closed when all is well.

`make alert` runs it in a job that may write issues. It needs only Python and gh, so no installed package sees the job's token.
"""

import json
import os
import subprocess
import sys

LABEL = "retraining"
TITLE = "Retraining needs attention"
WRONG = {
    "failed": """The last retraining cycle failed, or was cut off. The champion stays as it is until this is fixed.

The summary of the run says what was expected and what was found. `docs/runbook.md` lists the known problems.""",
    "refused": """Two retraining cycles in a row refused their challenger. The champion is unchanged, and may fall behind.

The summary of the run shows each rule. Label more of what is served (`make select label`), or change the parameters.""",
    "stale": """No retraining cycle ended in the last `retrain.max_age_days` days, or the store did not say when.

GitHub disables schedules after 60 days without a commit: enable the workflow *retrain* again, and run it.""",
}


def found(check: str, result: str, refused_twice: bool) -> str | None:
    """What is wrong, a key of `WRONG`; None if nothing is. A job that ran out of time counts as cancelled."""
    if result in ("failure", "cancelled"):
        return "stale" if check == "stale" else "failed"
    return "refused" if refused_twice else None


def marker(wrong: str) -> str:
    return f"<!-- {LABEL}: {wrong} -->"


def gh(*arguments: str) -> str:
    return subprocess.run(["gh", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S607 - the runner's


def report(check: str, wrong: str | None, run: str) -> str:
    """Bring the issue up to date; return what was done."""
    issues = json.loads(gh("issue", "list", "--label", LABEL, "--state", "open", "--json", "number,body"))
    if wrong:
        body = f"{marker(wrong)}\n{WRONG[wrong]}\n\nLast seen in {run}. This issue closes itself when all is well again.\n"
        if issues:
            gh("issue", "edit", str(issues[0]["number"]), "--body", body)
            return f"updated issue {issues[0]['number']}: {wrong}"
        gh("label", "create", LABEL, "--force", "--description", "The scheduled retraining")
        return f"opened {gh('issue', 'create', '--title', TITLE, '--label', LABEL, '--body', body).strip()}: {wrong}"
    # A champion of the right age says nothing about a cycle that failed since.
    closable = [each["number"] for each in issues if check == "cycle" or marker("stale") in each["body"]]
    for number in closable:
        gh("issue", "close", str(number), "--comment", f"All is well again: {run}")
    return f"closed issue {closable[0]}" if closable else "nothing to report"


if __name__ == "__main__":
    check, result, *options = sys.argv[1:]
    address = "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}".format_map(os.environ)
    print(f"alert     {report(check, found(check, result, options == ['--refused-twice']), address)}")
