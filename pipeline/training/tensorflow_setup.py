"""Importing TensorFlow for what this pipeline needs of it, which is quicker and smaller."""

import ctypes
import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.core import signals

# Keras, TensorFlow and MLflow take these up where they are installed, to accept their objects, which we never hand over.
# Without them TensorFlow is imported in about half the time and four fifths of the memory.
_OPTIONAL = ("matplotlib", "pandas", "scipy", "sklearn")

# GNU C library manual, "Malloc Tunable Parameters", and its malloc.h: the number of the option, and how many to allow.
_M_ARENA_MAX, _ARENAS = -8, 2


@contextmanager
def lean_tensorflow() -> Iterator[None]:
    """Import TensorFlow, and what builds on it, inside: without log lines, and without packages that it can do without.

    Those packages can be imported as ever afterwards, and those that are there already stay.
    """
    _share_arenas()
    withheld = [name for name in _OPTIONAL if name not in sys.modules]
    sys.modules.update(dict.fromkeys(withheld))  # type: ignore[arg-type]  # None: an import fails, as Python documents
    gc.disable()
    try:
        with signals.fragile(), native_output_held():
            yield
    finally:
        for name in withheld:
            del sys.modules[name]
        gc.freeze()  # a million objects that stay: looking through them again and again takes seconds
        gc.enable()


def _share_arenas() -> None:
    """Let threads share memory: glibc would give each of TensorFlow's dozens its own, and a tenth of the peak is unused."""
    if sys.platform == "linux":
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


@contextmanager
def native_output_held() -> Iterator[None]:
    """Hold back what C++ libraries write to stderr past Python's logging; show it if the block raises.

    TensorFlow writes some lines before its log level is in force.
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
