"""The imports of the modules in pipeline/, read from their source."""

import ast
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in (ROOT / "pipeline").rglob("*.py")
    if path.name != "__init__.py"
}


def imported(path: Path) -> set[str]:
    """Return every module that the source at `path` imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def direct(module: str) -> set[str]:
    """The modules of the pipeline that `module` imports directly."""
    return imported(MODULES[module]) & MODULES.keys()


def closure(module: str) -> set[str]:
    """`module` and every module of the pipeline that it imports, directly or indirectly."""
    found, pending = set(), {module}
    while pending:
        found.add(name := pending.pop())
        pending |= direct(name) - found
    return found


def outputs(stage: dict[str, Any]) -> set[str]:
    """The outputs of a stage of dvc.yaml: outs, metrics and plots."""
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}


def files(modules: set[str]) -> set[str]:
    """The paths of `modules` relative to the root, as in dvc.yaml."""
    return {MODULES[module].relative_to(ROOT).as_posix() for module in modules}
