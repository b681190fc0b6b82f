"""MNIST from raw files to a served ONNX model. `python -m pipeline` lists the verbs; dvc.yaml runs some of them as stages.

Each verb is a module in this folder, and imports from the packages beside it. No module imports a verb.
"""

import os
import signal
import sys
from types import FrameType

from pipeline.core import environment

environment.pin()  # libraries read the environment at import


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"\ninterrupted before the start.\n")
    os._exit(130)


# A verb imports modules for up to a second. A signal during that time would print a traceback.
# After that, `pipeline.core.signals` handles signals.
if sys.argv and os.path.basename(sys.argv[0]) in ("-m", "mnist-pipeline"):
    for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(_number) != signal.SIG_IGN:
            signal.signal(_number, _leave)
