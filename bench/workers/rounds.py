"""The worker of bench.interleave: run a round for each line of standard input, and print its seconds."""

import sys
import time
from collections.abc import Callable


class Rounds:
    """Reads requests from standard input and answers on standard output. Other output goes to standard error."""

    def __init__(self) -> None:
        self._answers, sys.stdout = sys.stdout, sys.stderr
        self._start = 0.0

    def wait(self) -> bool:
        """Wait for the next round; False if there are no more."""
        more = bool(sys.stdin.readline())
        self._start = time.perf_counter()
        return more

    def done(self) -> None:
        print(time.perf_counter() - self._start, file=self._answers, flush=True)


def serve(block: Callable[[], object]) -> None:
    """Run `block` once per round."""
    rounds = Rounds()
    while rounds.wait():
        block()
        rounds.done()
