"""Seconds and peak memory of each stage, compared with `import tensorflow` plus the training data.

`python -m bench.memory` runs every stage once on the data in data/.
"""

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

from bench import report
from pipeline.core.paths import Paths

STAGES = ("fetch", "validate", "train", "export", "evaluate", "explain", "register")
ROOT = Path(__file__).parent.parent
LIMIT = 1.3  # largest peak memory of a stage, as a multiple of the bare import plus the training data


class Cost(NamedTuple):
    """Time and memory of one process, as the operating system reports them."""

    seconds: float
    peak_megabytes: float  # resident set, with memory-mapped file pages, which the system can reclaim
    private_megabytes: float  # without those pages; 0 where the system does not report it (only Linux does)


def measure(*arguments: str, folder: Path = Path()) -> Cost:
    """Run Python with `arguments` in `folder`, without output.

    Call this from a small process: until a child starts its program, its peak includes its parent's memory.

    Raises:
        RuntimeError: the command failed.
    """
    start = time.perf_counter()
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment, **silent) as process:
        watched = Private(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)} exited with {process.returncode}: run `make repro` first")
    kilobytes = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)  # macOS counts bytes
    return Cost(time.perf_counter() - start, kilobytes / 1024, watched.peak / 1024)


class Private(threading.Thread):
    """Samples the private memory of a process until it ends; `peak` is in kilobytes."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.status, self.peak = Path(f"/proc/{pid}/status"), 0
        self.start()

    def run(self) -> None:
        try:
            while private := re.search(r"RssAnon:\s+(\d+)", self.status.read_text()):
                self.peak = max(self.peak, int(private[1]))
                time.sleep(0.01)
        except OSError:
            pass  # the process has ended, or this is not Linux


def section(costs: dict[str, Cost], bare: Cost, data_megabytes: float) -> str:
    """The results as Markdown."""
    allowed = LIMIT * (bare.peak_megabytes + data_megabytes)
    rows = [
        [stage, f"{cost.seconds:.1f}", f"{cost.peak_megabytes:.0f}", f"{cost.peak_megabytes / allowed * LIMIT:.2f}"]
        for stage, cost in costs.items()
    ]
    described = report.machine("python -m bench.memory", "tensorflow", "great-expectations", "mlflow")
    return (
        f"{described} One run of each stage; times vary with the load of the machine.\n\n"
        f"The unit of memory is a process that only runs `import tensorflow` ({bare.peak_megabytes:.0f} MB, "
        f"{bare.seconds:.1f} s) plus the training data ({data_megabytes:.0f} MB). No stage may exceed {LIMIT} times "
        f"that: {allowed:.0f} MB.\n\n{report.table(['stage', 'seconds', 'peak memory, MB', 'times the unit'], rows)}\n"
    )


def main() -> int:
    data = (Paths().raw / "train_images.npy").stat().st_size / 2**20
    measure("-c", "import tensorflow")  # reads the library from disk once, so that the next run does not time the disk
    bare = measure("-c", "import tensorflow")
    costs = {stage: measure("-m", f"pipeline.{stage}") for stage in STAGES}
    report.put("Seconds and memory of each stage", section(costs, bare, data))
    return 0


if __name__ == "__main__":
    sys.exit(main())
