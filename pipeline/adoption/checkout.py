"""Ask for a clean git checkout, so that `git checkout params.yaml` takes an adoption back."""

import subprocess
from pathlib import Path

from pipeline.adoption.errors import AdoptError

_REMEDY = "Commit or stash first, so that `git checkout params.yaml` can take the adoption back."


def require_clean(root: Path) -> None:
    """Raise AdoptError unless all files that git tracks below `root` are as they were committed."""
    command = ["git", "status", "--porcelain", "--untracked-files=no"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise AdoptError("git", "this program", "none", "Install git, or use --dry-run.") from error
    if done.returncode:
        found = (done.stderr.strip().splitlines() or ["an error"])[-1]
        raise AdoptError("git", "a checkout", found, "Run `git init` and commit, or use --dry-run.")
    if changed := [line[3:] for line in done.stdout.splitlines()]:
        more = " …" if len(changed) > 3 else ""
        raise AdoptError("git", "no uncommitted changes", f"{', '.join(changed[:3])}{more}", _REMEDY)
