"""List the verbs of the pipeline, or run one. The wheel has this as the command mnist-pipeline.

Example:
    python -m pipeline
    python -m pipeline predict photo.png
"""

import argparse
import ast
import runpy
import sys
from pathlib import Path

STAGES = ("fetch", "validate", "train", "export", "evaluate", "explain", "register")  # in the order in which DVC runs them
COMMAND = "mnist-pipeline"


def verbs() -> dict[str, Path]:
    """The module of each verb; stages first."""
    found = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.py")) if not path.stem.startswith("_")}
    return {name: found[name] for name in [*STAGES, *(name for name in found if name not in STAGES)]}


def summaries() -> dict[str, str]:
    """The first docstring line of each verb, read without importing it."""
    docs = {name: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "" for name, path in verbs().items()}
    return {name: doc.partition("\n")[0] for name, doc in docs.items()}


def listing(prog: str) -> str:
    lines = {name: f"  {name:<9} {summary}" for name, summary in summaries().items()}
    stages, commands = ("\n".join(line for name, line in lines.items() if (name in STAGES) is kind) for kind in (True, False))
    return (
        f"Stages, which `dvc repro` runs in this order:\n{stages}\n\nCommands:\n{commands}\n\n"
        f"Run one with `{prog} VERB`; `{prog} VERB --help` shows its options."
    )


def main() -> None:
    prog = COMMAND if Path(sys.argv[0]).name == COMMAND else "python -m pipeline"
    if sys.argv[1:2] and sys.argv[1] in verbs():
        run(prog, *sys.argv[1:])
        return
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog} [-h] [VERB ...]",
        description=listing(prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", nargs="?", choices=verbs(), help=argparse.SUPPRESS)
    parser.parse_args()
    print(parser.description)


def run(prog: str, verb: str, *arguments: str) -> None:
    """Run a verb as `python -m pipeline.VERB` does."""
    sys.argv = [f"{prog} {verb}", *arguments]  # the name that its messages give
    try:
        runpy.run_module(f"pipeline.{verb}", run_name="__main__")
    except ModuleNotFoundError as error:  # while the verb was imported; what it does reports its own errors
        from pipeline.core.errors import MissingPackageError

        if error.name is None or error.name.startswith("pipeline"):
            raise
        sys.exit(f"error: {MissingPackageError(error.name)}")


if __name__ == "__main__":
    main()
