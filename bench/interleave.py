"""Interleaved measurements: each contender runs in a separate process, one round of each after the other (A B A B)."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, NamedTuple

ROUNDS = 7
REST = 0.5  # seconds between rounds; the threads of OpenBLAS take some hundredths of a second to go idle
PEERS = Path(".venv/peers/bin/python")


class Worker(NamedTuple):
    """A process that runs one round for each line on its standard input; see bench.workers.rounds."""

    requests: IO[str]
    answers: IO[str]

    def run(self) -> float:
        """Run a round and return its seconds. Wait first, until the threads of the previous process are idle."""
        time.sleep(REST)
        self.requests.write("round\n")
        self.requests.flush()
        return float(self.answers.readline() or "nan")


@contextmanager
def worker(command: Sequence[str]) -> Iterator[Worker]:
    """Start `module argument ...` of bench.workers; modules for PyTorch and JAX run in the peers' environment.

    Raises:
        RuntimeError: the worker exits with an error.
    """
    module, *arguments = command
    python = str(PEERS) if module.startswith(("torch", "jax")) else sys.executable
    with tempfile.TemporaryFile("w+") as errors:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
        process = subprocess.Popen([python, "-m", f"bench.workers.{module}", *arguments], text=True, **pipes)
        try:
            yield Worker(process.stdin, process.stdout)
        finally:
            process.communicate()
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(command)} exited with {process.returncode}: {errors.read()[-2000:]}")


def interleave(contenders: Mapping[str, Sequence[str]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Return the seconds of each round of each contender, after two rounds of warm-up."""
    with ExitStack() as stack:
        workers = {name: stack.enter_context(worker(command)) for name, command in contenders.items()}
        for each in [*workers.values()] * 2:
            each.run()
        taken: dict[str, list[float]] = {name: [] for name in workers}
        for _ in range(rounds):
            for name, each in workers.items():
                taken[name].append(each.run())
    return taken


def ratio(taken: Mapping[str, Sequence[float]], one: str, other: str) -> float:
    """The median, over the rounds, of the seconds of `one` divided by those of `other` in the same round."""
    return statistics.median(a / b for a, b in zip(taken[one], taken[other], strict=True))
