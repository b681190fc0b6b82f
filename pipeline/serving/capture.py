"""Keep a share of the images that are asked about, with the answers, for `make drift`, bulk scoring and labelling.

Parquet files in one folder, each whole or absent. A row has the image, the probabilities, the version, the time and an
identifier of the request; nothing says who asked. The oldest files go first when the folder is full.
"""

import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock

from pipeline.core import files
from pipeline.core.params import CaptureParams
from pipeline.data.idx import Pixels
from pipeline.inference.onnx_model import INPUT, OUTPUT, Probabilities

_FLUSH_SECONDS = 10.0
_FLUSH_ROWS = 2000
_WINDOW = 60.0  # seconds
_DAY = 86400.0
_PATTERN = "captured-*.parquet"


class Row(NamedTuple):
    image: bytes
    probabilities: list[float]
    version: str
    time: datetime
    request_id: str


class Capture:
    """Sample what is offered; `start` writes it in the background until `stop`."""

    def __init__(self, folder: Path, params: CaptureParams, seed: int | None = None, workers: int = 1) -> None:
        """Keep rows in `folder`. Each of `workers` processes takes its part of what is allowed per minute."""
        self._folder, self._params = folder, params
        self._per_minute = max(1, params.per_minute // workers)
        self._random = np.random.default_rng(seed)
        self._rows: list[Row] = []
        self._lock = threading.Lock()  # of the rows, and of the window
        self._window, self._taken = 0.0, 0
        self._wake, self._stopped = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        folder.mkdir(parents=True, exist_ok=True)
        files.discard_parts(folder)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what is left."""
        self._stopped = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()
        self.flush()

    def offer(self, images: Pixels, probabilities: Probabilities, version: str) -> int:
        """Keep a random share of the images; return how many."""
        if self._full():
            return 0
        if len(images) == 1:  # without arrays, which would cost a tenth of such a request
            chosen = [0] if self._random.random() < self._params.share else []
        else:
            chosen = np.flatnonzero(self._random.random(len(images)) < self._params.share).tolist()
        if not chosen:
            return 0
        now, request = datetime.now(UTC), uuid.uuid4().hex
        with self._lock:
            chosen = chosen[: self._allowed(len(chosen))]
            self._rows += [
                Row(images[index].tobytes(), probabilities[index].tolist(), version, now, request) for index in chosen
            ]
            if len(self._rows) >= _FLUSH_ROWS:
                self._wake.set()
        return len(chosen)

    def _full(self) -> bool:
        """Whether nothing more is kept in this minute."""
        return self._taken >= self._per_minute and time.monotonic() - self._window < _WINDOW

    def _allowed(self, wanted: int) -> int:
        """How many of `wanted` images the bound per minute leaves; they are counted as taken."""
        now = time.monotonic()
        if now - self._window >= _WINDOW:
            self._window, self._taken = now, 0
        allowed = min(wanted, self._per_minute - self._taken)
        self._taken += allowed
        return allowed

    def _run(self) -> None:
        while not self._stopped:
            self._wake.wait(_FLUSH_SECONDS)
            self._wake.clear()
            self.flush()

    def flush(self) -> None:
        """Write the rows to a file of their own, and remove what is too old. On a full disk they are lost; requests go on."""
        with self._lock:
            rows, self._rows = self._rows, []
        try:
            with FileLock(self._folder / ".lock"):
                if rows:
                    self._write(rows)
                self._prune(0)
        except OSError:
            return

    def _write(self, rows: list[Row]) -> None:
        content = encoded(rows)
        if len(content) > self._params.most_bytes:
            return
        self._prune(len(content))
        name = f"captured-{rows[0].time:%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:8]}.parquet"
        with files.replacing(self._folder / name) as part:
            part.write_bytes(content)

    def _prune(self, needed: int) -> None:
        """Remove the oldest files until `needed` more bytes fit, and those that are too old."""
        found = [(path.name, path.stat(), path) for path in sorted(self._folder.glob(_PATTERN))]
        total, oldest = sum(stat.st_size for _, stat, _ in found), time.time() - self._params.most_days * _DAY
        for _, stat, path in found:
            if total + needed <= self._params.most_bytes and stat.st_mtime >= oldest:
                break
            path.unlink(missing_ok=True)
            total -= stat.st_size


def encoded(rows: list[Row]) -> bytes:
    """The rows as a Parquet file, with the column `image` that `python -m pipeline.score` reads."""
    import pyarrow as pa  # costs memory that a server without capture can do without
    from pyarrow import parquet

    schema = pa.schema(
        [
            (INPUT, pa.binary()),
            (OUTPUT, pa.list_(pa.float32())),
            ("version", pa.string()),
            ("time", pa.timestamp("us", "UTC")),
            ("request_id", pa.string()),
        ]
    )
    columns: Any = list(zip(*rows, strict=True))
    sink = pa.BufferOutputStream()
    parquet.write_table(
        pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema), sink
    )
    return bytes(sink.getvalue())
