"""Kill a stage just before its n-th change to files. Python imports this module first, from PYTHONPATH."""

import os
import signal
import sys

STAGE = f"pipeline.{os.environ.get('KILL_STAGE')}"
NUMBER = int(os.environ.get("KILL_BEFORE", "0"))  # 0: never
WHOLE_GROUP = os.environ.get("KILL_GROUP") == "1"

CHANGING = {"os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate"}
FOLDERS = tuple(os.path.join(os.getcwd(), folder, "") for folder in ("data", "mlruns"))


def changes(event: str, arguments: tuple) -> bool:
    if event not in CHANGING and not (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
        return False
    path = arguments[0]
    return isinstance(path, str | os.PathLike) and os.path.abspath(os.fspath(path)).startswith(FOLDERS)


if sys.orig_argv[-1] == STAGE:
    log = os.open(os.environ["KILL_LOG"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)  # one byte per change
    done = 0

    def audit(event: str, arguments: tuple) -> None:
        global done
        if changes(event, arguments):
            done += 1
            if done == NUMBER:
                if WHOLE_GROUP:
                    os.killpg(0, signal.SIGKILL)
                os.kill(os.getpid(), signal.SIGKILL)
            os.write(log, b".")

    sys.addaudithook(audit)
