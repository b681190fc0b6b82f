"""List the verbs of the pipeline.

Example:
    python -m pipeline
"""

import argparse
import ast
from pathlib import Path

STAGES = ("fetch", "validate", "train", "export", "evaluate", "explain", "register")  # in the order in which DVC runs them


def summaries() -> dict[str, str]:
    """The first docstring line of each verb, read without importing it; stages first."""
    verbs = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.py")) if not path.stem.startswith("_")}
    ordered = [*STAGES, *(name for name in verbs if name not in STAGES)]
    docs = {name: ast.get_docstring(ast.parse(verbs[name].read_text(encoding="utf-8"))) or "" for name in ordered}
    return {name: doc.partition("\n")[0] for name, doc in docs.items()}


def listing() -> str:
    lines = {name: f"  {name:<9} {summary}" for name, summary in summaries().items()}
    stages, commands = ("\n".join(line for name, line in lines.items() if (name in STAGES) is kind) for kind in (True, False))
    return (
        f"Stages, which `dvc repro` runs in this order:\n{stages}\n\nCommands:\n{commands}\n\n"
        "Run one with `python -m pipeline.VERB`; `python -m pipeline.VERB --help` shows its options."
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m pipeline", description=listing(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    print(parser.description)
