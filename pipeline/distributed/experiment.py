"""Queue the best trial of a sweep as a DVC experiment."""

import shlex
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from pipeline.distributed.errors import QueueError


def queue(trial: str, config: Mapping[str, Any]) -> str:
    """Queue an experiment with the parameters `config` of a trial, and return the experiment's name.

    Raises:
        QueueError: DVC refuses it.
    """
    name = f"sweep-{trial.replace('_', '-')}"
    changes = [f"--set-param={key}={value}" for key, value in sorted(config.items())]
    command = [sys.executable, "-m", "dvc", "exp", "run", "--queue", "--name", name, *changes]
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        lines = (process.stderr.strip() or process.stdout.strip() or "nothing").splitlines()
        found = next((line for line in lines if line.startswith("ERROR: ")), lines[-1])  # DVC's last line offers help
        raise QueueError(found.removeprefix("ERROR: "), f"dvc {shlex.join(command[3:])}")
    return name
