"""Speed of the MLflow store as its number of runs grows, on SQLite and on PostgreSQL: `python -m bench.store`.

SQL writes the runs into a store that MLflow created, each with five parameters, five metrics and a tag. The timed calls are
MLflow's own: the run list of the UI, the same list sorted by a metric, the writes of one run, and a registration.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import mlflow
import sqlalchemy
from mlflow.entities import Metric, Param

from bench import report
from tests.servers import postgres

SIZES = (10_000, 100_000, 1_000_000)
REPEATS = 5
NAMES = range(5)

# The numbers :low to :high, by database.
SERIES = {
    "sqlite": "WITH RECURSIVE s(n) AS (SELECT :low UNION ALL SELECT n + 1 FROM s WHERE n < :high)",
    "postgresql": "WITH s AS (SELECT generate_series(CAST(:low AS bigint), CAST(:high AS bigint)) AS n)",
}
ROWS = [
    "INSERT INTO runs (run_uuid, name, experiment_id, lifecycle_stage, status, start_time, end_time, artifact_uri, user_id,"
    " source_type, source_name, entry_point_name, source_version) {series}"
    " SELECT 'run' || n, 'r' || n, :experiment, 'active', 'FINISHED', n * 1000, n * 1000 + 9, '', 'u', 'LOCAL', '', '', ''"
    " FROM s",
    "INSERT INTO tags (run_uuid, key, value) {series} SELECT 'run' || n, 'data', 'd' || n % 7 FROM s",
    *(
        f"INSERT INTO params (run_uuid, key, value) {{series}} SELECT 'run' || n, 'p{name}', CAST(n % 97 AS varchar(9)) FROM s"
        for name in NAMES
    ),
    *(
        f"INSERT INTO latest_metrics (run_uuid, key, value, timestamp, step, is_nan) {{series}}"
        f" SELECT 'run' || n, 'm{name}', (n * 7919 % 100003) / 100003.0, n, 0, {{false}} FROM s"
        for name in NAMES
    ),
]


def fill(engine: Any, experiment: str, low: int, high: int) -> None:
    """Insert the runs with the numbers `low` to `high`."""
    kind = engine.dialect.name
    numbers = {"low": low, "high": high, "experiment": int(experiment)}
    with engine.begin() as connection:
        for statement in ROWS:
            text = statement.format(series=SERIES[kind], false="false" if kind == "postgresql" else "0")
            connection.execute(sqlalchemy.text(text), {key: value for key, value in numbers.items() if f":{key}" in text})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sqlalchemy.text("ANALYZE"))


def timed(call: Callable[[], object]) -> float:
    """Median milliseconds of a call, after one warm-up call."""
    call()
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken)


def calls(client: mlflow.MlflowClient, experiment: str) -> dict[str, Callable[[], object]]:
    def write() -> None:
        run = client.create_run(experiment)
        now = time.time_ns() // 1_000_000
        metrics = [Metric(f"m{name}", 0.5, now, step) for name in NAMES for step in range(26)]
        client.log_batch(run.info.run_id, metrics, [Param(f"p{name}", "1") for name in NAMES])
        client.set_terminated(run.info.run_id)

    def register() -> None:
        version = client.create_model_version("model", "/nowhere")
        client.set_registered_model_alias("model", "challenger", version.version)

    return {
        "newest 100": lambda: client.search_runs([experiment], order_by=["attributes.start_time DESC"], max_results=100),
        "best 100": lambda: client.search_runs([experiment], order_by=["metrics.m0 DESC"], max_results=100),
        "by a parameter": lambda: client.search_runs([experiment], "params.p0 = '3'", max_results=100),
        "writes of a run": write,
        "registration": register,
    }


def measure(uri: str) -> list[list[str]]:
    """One row of results per size."""
    client = mlflow.MlflowClient(uri, uri)
    experiment, engine = client.create_experiment("bench", "/nowhere"), sqlalchemy.create_engine(uri)
    client.create_registered_model("model")
    rows, before = [], 0
    for size in SIZES:
        fill(engine, experiment, before + 1, size)
        before = size
        times = {name: timed(call) for name, call in calls(client, experiment).items()}
        rows.append([engine.dialect.name, f"{size:,}", *(f"{value:,.0f}" for value in times.values())])
    return rows


def main() -> int:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        rows = measure(f"sqlite:///{folder}/store.db")
        rows += measure(stack.enter_context(postgres(folder)))
    header = ["store", "runs", "newest 100", "best 100", "by a parameter", "writes of a run", "registration"]
    described = report.machine("python -m bench.store", "mlflow", "sqlalchemy")
    report.put("Many runs", f"{described} Median milliseconds of {REPEATS} calls each.\n\n{report.table(header, rows)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
