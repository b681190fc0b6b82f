"""Append an entry to `fetch.extra` in params.yaml. Every other byte of the file stays as it is."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node, SequenceNode

from pipeline.core import files, params
from pipeline.core.errors import InvalidParamsError


def append(path: Path, entry: Mapping[str, Any]) -> None:
    """Add the entry to the file, unless it has one of this name.

    Raises:
        InvalidParamsError: the file would not be valid; it was not changed.
    """
    before = path.read_text(encoding="utf-8")
    after = appended(before, entry)
    old, new = (_entries(text) for text in (before, after))
    if after != before and new != [*old, dict(entry)]:
        raise InvalidParamsError(path, [f"expected fetch.extra as a list, to which to add {_written(entry)}"])
    params.check(params.parse(after.encode(), path), path)
    files.write_text(path, after)


def _entries(text: str) -> list[Any]:
    fetch = YAML(typ="safe", pure=True).load(text)["fetch"]
    return list(fetch.get("extra") or [])


def appended(text: str, entry: Mapping[str, Any]) -> str:
    """The YAML `text` with the entry; unchanged if fetch.extra has one of this name."""
    if any(each.get("name") == entry["name"] for each in _entries(text)):
        return text
    lines, fetch = text.splitlines(keepends=True), _value(YAML().compose(text), "fetch")
    first = fetch.value[0][0].start_mark
    indent, written = " " * first.column, _written(entry)
    extra = _value(fetch, "extra")
    if extra is None:
        lines.insert(first.line, f"{indent}extra:\n{indent}  - {written}\n")
    elif not isinstance(extra, SequenceNode) or not extra.value:  # [] or null
        line = next(name.start_mark.line for name, _ in fetch.value if name.value == "extra")
        opened = re.sub(r"(extra\s*:)(\s*(\[\s*\]|null|~))?", r"\1", lines[line], count=1)
        lines[line] = opened if opened.endswith("\n") else f"{opened}\n"
        lines.insert(line + 1, f"{indent}  - {written}\n")
    elif extra.flow_style:
        line, column = extra.end_mark.line, extra.end_mark.column - 1
        lines[line] = f"{lines[line][:column]}, {written}{lines[line][column:]}"
    else:
        line = _last_line(extra)
        if not lines[line].endswith("\n"):
            lines[line] += "\n"
        lines.insert(line + 1, f"{' ' * extra.start_mark.column}- {written}\n")
    return "".join(lines)


def _value(mapping: Any, key: str) -> Any:
    """The node of a key, or None."""
    pairs = mapping.value if isinstance(mapping, MappingNode) else []
    return next((value for name, value in pairs if name.value == key), None)


def _last_line(node: Node) -> int:
    """The line in which a node ends. A block ends where the next token begins, so ask what is in it."""
    if isinstance(node, CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.line)


def _written(entry: Mapping[str, Any]) -> str:
    """The entry in one line. JSON quotes what YAML could read as something else."""
    shown = {
        key: value if re.fullmatch(r"[A-Za-z][\w./-]*", str(value)) else json.dumps(value) for key, value in entry.items()
    }
    return "{" + ", ".join(f"{key}: {value}" for key, value in shown.items()) + "}"
