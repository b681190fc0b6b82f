"""bench/results.md: one section for each measurement. Its command prints the section and replaces it in the file."""

import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(__file__).with_name("results.md")
TITLE = "# Results\n\nEach section was written by the command that it names; see [README.md](README.md).\n"


def machine(command: str, *packages: str) -> str:
    """The date and machine of a measurement by `command`, with the versions of `packages`."""
    versions = ", ".join(f"{package} {_version(package)}" for package in packages)
    return (
        f"Measured by `{command}` on {datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores ({processor()}), "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
        + (f", {versions}." if versions else ".")
    )


def processor() -> str:
    """The name of the processor, if the system reports it."""
    found = re.search(r"model name\s*: (.*)", _text(Path("/proc/cpuinfo")))
    return found[1] if found else platform.processor() or "unknown"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def put(title: str, body: str, results: Path = RESULTS) -> None:
    """Print a section and write it to `results`, in place of the section with that title or at the end."""
    print(f"\n## {title}\n\n{body}")
    sections = dict(re.findall(r"^## (.*)\n\n((?:.*\n)*?)(?=^## |\Z)", _text(results), re.MULTILINE))
    sections[title] = body
    text = TITLE + "\n" + "".join(f"## {name}\n\n{content.rstrip()}\n\n" for name, content in sections.items())
    results.write_text(text.rstrip() + "\n", encoding="utf-8")


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
