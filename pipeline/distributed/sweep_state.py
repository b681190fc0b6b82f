"""The record of a sweep, data/sweep/sweep.json: its MLflow run, and the parameters and data that it searches with."""

from typing import Any

from pipeline.core import files
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.distributed.errors import SweepError


def inputs(params: Params, paths: Paths) -> dict[str, Any]:
    """Return the parameters and the fingerprint of the data, as JSON. A sweep resumes only with equal inputs."""
    content = params.model_dump(mode="json", by_alias=True, include={"model", "train", "sweep"})
    return content | {"data": datasets.read_manifest(paths)["fingerprint"]}


def write(run_id: str, params: Params, paths: Paths) -> None:
    files.write_json(paths.sweep_record, {"run_id": run_id, "of": inputs(params, paths)})


def resumed_run(params: Params, paths: Paths) -> str:
    """Return the MLflow run of the sweep to resume.

    Raises:
        SweepError: the sweep started with other parameters or data.
    """
    record = files.read_json(paths.sweep_record)
    changed = [name for name, value in inputs(params, paths).items() if record["of"][name] != value]
    if changed:
        remedy = "Restore them, or start a sweep without --resume."
        raise SweepError("the inputs that the sweep started with", f"changes of {' and '.join(changed)}", remedy)
    return str(record["run_id"])
