"""What each stage costs: seconds and peak memory, beside a bare `import tensorflow` and the training data.

`python -m bench.memory` runs every stage once by itself on the data in place.
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
LIMIT = 1.3  # of the bare import plus the training data: what a stage's peak memory is to stay below


class Cost(NamedTuple):
    """What one process took, as the operating system counted it."""

    seconds: float
    peak_megabytes: float  # resident, with the pages of files that it mapped and the system may take back
    private_megabytes: float  # without those, as far as the system tells: Linux does


def measure(*arguments: str, folder: Path = Path()) -> Cost:
    """Run Python with `arguments` in `folder` to its end, silently.

    The process that asks must be small: until it starts its program, a child counts as large as its parent.

    Raises:
        RuntimeError: it failed.
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
    """Watches the private memory of a process until it is gone; `peak` is in kilobytes."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.status, self.peak = Path(f"/proc/{pid}/status"), 0
        self.start()

    def run(self) -> None:
        try:
            while found := re.search(r"RssAnon:\s+(\d+)", self.status.read_text()):
                self.peak = max(self.peak, int(found[1]))
                time.sleep(0.01)
        except OSError:
            pass  # it is gone, or this is no Linux


def section(costs: dict[str, Cost], bare: Cost, data_megabytes: float) -> str:
    """The results as Markdown."""
    allowed = LIMIT * (bare.peak_megabytes + data_megabytes)
    rows = [
        [stage, f"{cost.seconds:.1f}", f"{cost.peak_megabytes:.0f}", f"{cost.peak_megabytes / allowed * LIMIT:.2f}"]
        for stage, cost in costs.items()
    ]
    described = report.machine("python -m bench.memory", "tensorflow", "great-expectations", "mlflow")
    return (
        f"{described} Times are of one run of each stage by itself, and swing with the machine.\n\n"
        f"The measure of memory is a process that does nothing but `import tensorflow` ({bare.peak_megabytes:.0f} MB, "
        f"{bare.seconds:.1f} s) plus the training data ({data_megabytes:.0f} MB). No stage is to peak above {LIMIT} times "
        f"that: {allowed:.0f} MB.\n\n{report.table(['stage', 'seconds', 'peak memory, MB', 'times the measure'], rows)}\n"
    )


def main() -> int:
    data = (Paths().raw / "train_images.npy").stat().st_size / 2**20
    measure("-c", "import tensorflow")  # reads the library from disk, so that what follows measures memory and not the disk
    bare = measure("-c", "import tensorflow")
    costs = {stage: measure("-m", f"pipeline.{stage}") for stage in STAGES}
    report.put("Seconds and memory of each stage", section(costs, bare, data))
    return 0


if __name__ == "__main__":
    sys.exit(main())
