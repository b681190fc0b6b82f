"""Complete the MLflow run that train opened, and register its ONNX model as challenger.

Run this stage alone (`make register`) if the store was lost or replaced: it restores what the store lacks.

Example:
    python -m pipeline.register
"""

import sys

from pipeline.core import console, files
from pipeline.core.params import Params
from pipeline.core.paths import Paths


def run(params: Params, paths: Paths) -> str:
    from pipeline.tracking import registry, runs  # MLflow takes seconds to import: only with valid parameters

    with runs.completed_run(params, paths) as run_id:
        registration = registry.register(run_id, params, paths)
    name = params.tracking.model
    content = {
        "run_id": registration.run_id,
        "model": name,
        "version": registration.version,
        "onnx_sha256": files.sha256(paths.onnx),
    }
    files.write_json(paths.registration, content)
    before = "" if registration.created else ", registered before"
    return f"{name} version {registration.version} is {registry.CHALLENGER}{before}"


if __name__ == "__main__":
    sys.exit(console.run_stage("register", run, __doc__))
