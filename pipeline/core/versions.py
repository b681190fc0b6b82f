"""Library versions: those that the lock names, and those that a process runs with."""

import sys
from collections.abc import Mapping, Sequence

from ruamel.yaml import YAML

from pipeline.core.paths import Paths

Versions = Mapping[str, Sequence[str]]


def locked(paths: Paths) -> Versions:
    """Return the versions in requirements/versions.yaml by package: more than one where they depend on Python's version.

    Empty where there is no such file, as in a tree that holds data and parameters only.
    """
    if not paths.versions.is_file():
        return {}
    content = YAML(typ="safe", pure=True).load(paths.versions)
    return {name: [value] if isinstance(value, str) else value for name, value in content.items()}


def mismatches(locked: Versions) -> list[str]:
    """Return a phrase for each package that this process has imported in another version than `locked` names."""
    phrases = []
    for name, expected in locked.items():
        module = sys.modules.get(name.replace("-", "_"))
        if (running := getattr(module, "__version__", None)) and running not in expected:
            phrases.append(f"{name} {running} (locked: {' or '.join(expected)})")
    return phrases
