"""What a job on GitHub shows and hands on. Elsewhere these functions do nothing."""

import os


def show(text: str) -> None:
    """Append Markdown to the page of the job."""
    _append("GITHUB_STEP_SUMMARY", text)


def output(name: str, value: str) -> None:
    """Set an output of the step, in one line, which later jobs can read."""
    _append("GITHUB_OUTPUT", f"{name}={value}\n")


def run_address() -> str | None:
    """The address of the run that the job belongs to."""
    if "GITHUB_RUN_ID" not in os.environ:
        return None
    return "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}".format_map(os.environ)


def _append(variable: str, text: str) -> None:
    if path := os.environ.get(variable):
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)
