"""Print the locked version of each direct dependency, as YAML: `make lock` writes it to requirements/versions.yaml.

Where the lock has one version for older Pythons and another for newer ones, the entry is a list.
"""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent


def locked(name: str, lock: str) -> list[str]:
    """Every version of the package in the text of a lock."""
    return re.findall(rf"^{re.escape(name)}(?:\[[^]]*\])?==([^ \\]+)", lock, re.MULTILINE)


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lock = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    print("# Written by `make lock`. dvc.yaml names those that decide a stage's outputs: an upgrade reruns these stages.")
    for name in sorted(Requirement(line).name for line in project["dependencies"] + project["optional-dependencies"]["train"]):
        versions = ", ".join(f'"{version}"' for version in locked(name, lock))
        print(f"{name}: [{versions}]" if "," in versions else f"{name}: {versions}")


if __name__ == "__main__":
    main()
