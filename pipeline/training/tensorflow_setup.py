"""Import TensorFlow faster and with less memory."""

import ctypes
import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.core import signals

# Keras, TensorFlow and MLflow import these packages if installed, to accept their objects; the pipeline passes none.
# Without them, importing TensorFlow takes about half the time and four fifths of the memory.
_OPTIONAL = ("matplotlib", "pandas", "scipy", "sklearn")

# M_ARENA_MAX of malloc.h (GNU C library manual, "Malloc Tunable Parameters"), and the number of arenas to allow.
_M_ARENA_MAX, _ARENAS = -8, 2


@contextmanager
def lean_tensorflow(threads: int) -> Iterator[None]:
    """Import TensorFlow, and modules that import it, in this block: without log lines and without optional packages.

    Optional packages that are already imported stay; the others can be imported after the block.

    Args:
        threads: how many threads compute an operation, on any number of cores. Sums over other numbers of parts round
            differently, so this decides the weights to the last bit.
    """
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads)
    _share_arenas()
    hidden = [name for name in _OPTIONAL if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None makes an import fail (Python documentation, sys.modules)
    gc.disable()
    try:
        with signals.fragile(), native_output_held():
            yield
    finally:
        for name in hidden:
            del sys.modules[name]
        gc.freeze()  # a million permanent objects: scanning them in each collection takes seconds
        gc.enable()


def _share_arenas() -> None:
    """Let threads share malloc arenas. By default each of TensorFlow's many threads gets one: a tenth of the peak memory."""
    if sys.platform == "linux":
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


@contextmanager
def native_output_held() -> Iterator[None]:
    """Hide what C++ libraries write to stderr, and show it if the block raises.

    TensorFlow writes some lines before its log level takes effect.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
