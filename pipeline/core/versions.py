"""Compare the library versions of this process with the locked ones."""

import sys
from collections.abc import Mapping, Sequence

from ruamel.yaml import YAML

from pipeline.core.paths import Paths

Versions = Mapping[str, Sequence[str]]


def locked(paths: Paths) -> Versions:
    """Return the versions in requirements/versions.yaml by package; empty if the file does not exist.

    A package has more than one version if the lock depends on the version of Python.
    """
    if not paths.versions.is_file():
        return {}
    content = YAML(typ="safe", pure=True).load(paths.versions)
    return {name: [value] if isinstance(value, str) else value for name, value in content.items()}


def mismatches(locked: Versions) -> list[str]:
    """Describe each imported package whose version is not a locked one."""
    phrases = []
    for name, expected in locked.items():
        module = sys.modules.get(name.replace("-", "_"))
        if (running := getattr(module, "__version__", None)) and running not in expected:
            phrases.append(f"{name} {running} (locked: {' or '.join(expected)})")
    return phrases
