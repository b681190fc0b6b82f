import subprocess
import sys

from tests.imports import ROOT

OPTIONAL = ["matplotlib", "pandas", "scipy", "sklearn"]


def output_of(code: str) -> str:
    """Return the output of `code` in a new interpreter."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout.strip()


def test_optional_packages_are_hidden_in_the_block_and_importable_after_it() -> None:
    code = f"""
import gc, sys
from pipeline.training import tensorflow_setup
with tensorflow_setup.lean_tensorflow(2):
    from pipeline.tracking import runs
    from pipeline.training import fit, network
import keras
print([name for name in {OPTIONAL} if name in sys.modules], keras.backend.backend(), gc.isenabled())
import matplotlib, pandas, scipy.sparse, sklearn
"""
    assert output_of(code) == "[] tensorflow True"


def test_packages_that_are_already_imported_stay_imported() -> None:
    code = """
import pandas
from pipeline.training import tensorflow_setup
with tensorflow_setup.lean_tensorflow(2):
    import pandas as again
print(again is pandas)
"""
    assert output_of(code) == "True"


def test_a_failed_import_restores_the_hidden_packages() -> None:
    code = """
from pipeline.training import tensorflow_setup
try:
    with tensorflow_setup.lean_tensorflow(2):
        import matplotlib
except ModuleNotFoundError:
    import gc, matplotlib
    print(gc.isenabled())
"""
    assert output_of(code) == "True"
