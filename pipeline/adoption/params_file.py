"""Write choices into params.yaml, with the comments that are there and one that says where each choice comes from."""

import difflib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark
from ruamel.yaml.scalarstring import DoubleQuotedScalarString
from ruamel.yaml.tokens import CommentToken

from pipeline.adoption.bounds import Choice
from pipeline.core import files, params

_WIDTH = 4096  # of a line, so that none is wrapped
_MARK = "adopted: "
_NULL = "tag:yaml.org,2002:null"


def edited(text: str, choices: Sequence[Choice]) -> str:
    """The YAML `text` with the choices. A value None only sets the comment."""
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = _WIDTH, True
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(type(None), lambda representer, _: representer.represent_scalar(_NULL, "null"))
    content = yaml.load(text)
    for choice in choices:
        *sections, key = choice.key.split(".")
        section = content
        for name in sections:
            section = section[name]
        if choice.value is not None:
            _set(section, key, choice.value)
        if choice.why:
            _comment(section, key, choice.why)
    out = io.StringIO()
    yaml.dump(content, out)
    return out.getvalue()


def _set(section: Any, key: str, value: Any) -> None:
    """Set a value, and keep the comment that ends its line and what follows it. A list keeps its style."""
    old, kept = section[key], section.ca.items.get(key)
    if isinstance(old, CommentedSeq) and isinstance(value, list):
        del old[:]
        old.extend(_quoted(item) for item in value)
        return
    section[key] = _plain(value) if value != "null" else None
    if kept is not None:
        section.ca.items[key] = kept


def _plain(value: Any) -> Any:
    """Lists in one line; text that YAML could read as something else in quotes."""
    if isinstance(value, list | tuple):
        items = CommentedSeq([_quoted(item) for item in value])
        items.fa.set_flow_style()
        return items
    return value


def _quoted(item: Any) -> Any:
    return DoubleQuotedScalarString(item) if isinstance(item, str) else item


def _comment(section: CommentedMap, key: str, why: str) -> None:
    """Append to the comment at the end of the key's line, instead of what an earlier adoption said there."""
    kept = section.ca.items.get(key)
    token = kept[2] if kept and len(kept) > 2 and kept[2] else None
    first, _, rest = (token.value if token else "").partition("\n")
    said = first.strip().lstrip("#").strip().partition(_MARK)[0].rstrip("; ")
    line = f"  # {said}; {_MARK}{why}" if said else f"  # {_MARK}{why}"
    # Column 0 is left of the value, so ruamel.yaml writes the comment right behind it, with one space more.
    comment = CommentToken(f"{line[1:]}\n{rest}", CommentMark(0), None)
    section.ca.items[key] = [*(kept[:2] if kept else [None, None]), comment, None]


def difference(before: str, after: str, path: Path) -> str:
    """The change as `diff -u` shows it."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), path.as_posix(), path.as_posix(), lineterm="", n=0)
    return "\n".join(lines)


def write(path: Path, text: str) -> None:
    """Replace the file, after the new text has proved to be valid parameters."""
    params.check(params.parse(text.encode(), path), path)
    files.write_text(path, text)
