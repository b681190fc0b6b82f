"""Complete the MLflow run that train opened, and register its ONNX model as challenger.

Run this stage alone (`make register`) if the store was lost or replaced: it restores what the store lacks.

Example:
    python -m pipeline.register
"""

import sys

from pipeline.core import console
from pipeline.core.params import Params
from pipeline.core.paths import Paths


def run(params: Params, paths: Paths) -> str:
    from pipeline.tracking import registration  # MLflow takes seconds to import: only with valid parameters
    from pipeline.tracking.connection import connected

    with connected(params, paths):
        version, created = registration.register(params, paths)
        what = registration.show(version)
    registration.record(version, params, paths)
    return f"{version.name} version {version.number} is {what}{'' if created else ', registered before'}"


if __name__ == "__main__":
    sys.exit(console.run_stage("register", run, __doc__))
