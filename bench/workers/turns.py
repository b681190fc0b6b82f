"""What a worker and bench.turns say to each other: a line in is a turn to take, a line out the seconds that it took."""

import sys
import time
from collections.abc import Callable


class Turns:
    """Waits for turns on standard input and answers on standard output, which nothing else may write to."""

    def __init__(self) -> None:
        self._answers, sys.stdout = sys.stdout, sys.stderr
        self._start = 0.0

    def wait(self) -> bool:
        """Wait for a turn; False when there are no more."""
        more = bool(sys.stdin.readline())
        self._start = time.perf_counter()
        return more

    def done(self) -> None:
        print(time.perf_counter() - self._start, file=self._answers, flush=True)


def serve(block: Callable[[], object]) -> None:
    """Run `block` once a turn."""
    turns = Turns()
    while turns.wait():
        block()
        turns.done()
