import subprocess
import sys

from tests.imports import ROOT

OPTIONAL = ["matplotlib", "pandas", "scipy", "sklearn"]


def printed(code: str) -> str:
    """What `code` prints in an interpreter of its own, where nothing has been imported before."""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert run.stderr == ""
    return run.stdout.strip()


def test_what_train_imports_leaves_out_what_it_can_do_without_and_only_there() -> None:
    code = f"""
import gc, sys
from pipeline.training import tensorflow_setup
with tensorflow_setup.lean_tensorflow():
    from pipeline.tracking import runs
    from pipeline.training import fit, network
import keras
print([name for name in {OPTIONAL} if name in sys.modules], keras.backend.backend(), gc.isenabled())
import matplotlib, pandas, scipy.sparse, sklearn
"""
    assert printed(code) == "[] tensorflow True"


def test_what_is_imported_already_stays() -> None:
    code = """
import pandas
from pipeline.training import tensorflow_setup
with tensorflow_setup.lean_tensorflow():
    import pandas as again
print(again is pandas)
"""
    assert printed(code) == "True"


def test_an_import_that_fails_leaves_nothing_withheld() -> None:
    code = """
from pipeline.training import tensorflow_setup
try:
    with tensorflow_setup.lean_tensorflow():
        import matplotlib
except ModuleNotFoundError:
    import gc, matplotlib
    print(gc.isenabled())
"""
    assert printed(code) == "True"
