"""Measuring side by side: each contender in a process of its own, one turn after the other, A B A B."""

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
REST = 0.5  # seconds; OpenBLAS's threads take some hundredths
PEERS = Path(".venv/peers/bin/python")


class Worker(NamedTuple):
    """A process that takes a turn for each line that it reads."""

    turns: IO[str]
    answers: IO[str]

    def turn(self) -> float:
        """Seconds of one turn, after a rest in which the threads of the one before stop waiting for work at full speed."""
        time.sleep(REST)
        self.turns.write("turn\n")
        self.turns.flush()
        return float(self.answers.readline() or "nan")


@contextmanager
def worker(command: Sequence[str]) -> Iterator[Worker]:
    """`module argument ...` of bench.workers; those of torch and jax run among the peers.

    Raises:
        RuntimeError: it does not start, or fails.
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


def alternate(contenders: Mapping[str, Sequence[str]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Seconds of each turn of each contender, after two turns to warm up."""
    with ExitStack() as stack:
        workers = {name: stack.enter_context(worker(command)) for name, command in contenders.items()}
        for each in [*workers.values()] * 2:
            each.turn()
        taken: dict[str, list[float]] = {name: [] for name in workers}
        for _ in range(rounds):
            for name, each in workers.items():
                taken[name].append(each.turn())
    return taken


def ratio(taken: Mapping[str, Sequence[float]], one: str, other: str) -> float:
    """The median over the rounds of the seconds of `one` over those of `other`, in the same round."""
    return statistics.median(a / b for a, b in zip(taken[one], taken[other], strict=True))
