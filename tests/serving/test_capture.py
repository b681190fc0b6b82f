"""What capture keeps: a share, within bounds, in files that are whole."""

import math
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from pipeline.core.params import CaptureParams
from pipeline.distributed.blocks import read_block, split_into_blocks
from pipeline.serving import image_files
from pipeline.serving.capture import Capture, Row, encoded
from tests.conftest import Repository
from tests.serving.asgi import Client, opened
from tests.serving.test_app import counted

ALL = {"share": 1.0, "per_minute": 10_000, "most_bytes": 10_000_000, "most_days": 1.0}


def capturing(folder: Path, workers: int = 1, **changes: Any) -> Capture:
    return Capture(folder, CaptureParams.model_validate(ALL | changes), seed=1, workers=workers)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in parquet.read_table(path).to_pylist()]


def test_what_is_asked_is_kept_with_its_answer_and_nothing_about_who_asked(
    built: Repository, images: Any, expected: Any, tmp_path: Path
) -> None:
    capture = capturing(tmp_path)
    client = Client(opened(built.paths.onnx), capture=capture)
    before = datetime.now(UTC)
    client.post("/invocations", {"inputs": images.tolist()}, User_Agent="hunter2", Cookie="hunter2", X_Forwarded_For="hunter2")
    capture.flush()

    kept = rows(tmp_path)
    assert {tuple(row) for row in kept} == {("image", "probabilities", "version", "time", "request_id")}
    assert [row["image"] for row in kept] == [image.tobytes() for image in images]
    np.testing.assert_allclose([row["probabilities"] for row in kept], expected, atol=1e-6)
    assert {row["version"] for row in kept} == {client.service.served.version}
    assert len({row["request_id"] for row in kept}) == 1
    assert all(before <= row["time"] <= datetime.now(UTC) for row in kept)
    assert not any(b"hunter2" in path.read_bytes() for path in tmp_path.iterdir())
    assert counted(client, "serve_captured_images_total") == 3


def test_nothing_is_kept_by_default(client: Client, images: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    client.post("/invocations", {"inputs": images.tolist()})

    assert client.service.capture is None
    assert list(tmp_path.iterdir()) == []


def offer(capture: Capture, images: Any, times: int = 1) -> int:
    probabilities = np.full((len(images), 10), 0.1, np.float32)
    return sum(capture.offer(images, probabilities, "1") for _ in range(times))


@pytest.mark.parametrize("size", [1, 100])
def test_the_share_is_that_of_the_parameters(tmp_path: Path, size: int) -> None:
    asked, share = 20_000, 0.05
    capture = capturing(tmp_path, share=share)

    kept = offer(capture, np.zeros((size, 2, 2), np.uint8), asked // size)

    assert abs(kept - asked * share) < 4 * math.sqrt(asked * share * (1 - share))


def test_no_more_is_kept_in_a_minute_than_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    capture, images = capturing(tmp_path, per_minute=10, workers=2), np.zeros((3, 2, 2), np.uint8)
    assert offer(capture, images, times=5) == 5  # this process may keep half of it

    now = time.monotonic()
    monkeypatch.setattr("pipeline.serving.capture.time.monotonic", lambda: now + 61)
    assert offer(capture, images, times=5) == 5


def test_the_oldest_files_go_first_and_the_folder_never_holds_more(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (20, 28, 28), np.uint8)
    size = len(encoded([Row(image.tobytes(), [0.1] * 10, "1", datetime.now(UTC), "a" * 32) for image in images]))
    capture, seen = capturing(tmp_path, most_bytes=int(3.5 * size)), list[str]()
    for _ in range(8):
        offer(capture, images)
        capture.flush()
        found = sorted(path.name for path in tmp_path.glob("*.parquet"))
        seen += [name for name in found if name not in seen]
        assert found == seen[-3:]
        assert sum(path.stat().st_size for path in tmp_path.glob("*.parquet")) <= 3.5 * size


def test_files_that_are_too_old_go(tmp_path: Path) -> None:
    capture = capturing(tmp_path, most_days=2)
    for days in (3, 1):
        offer(capture, np.zeros((1, 2, 2), np.uint8))
        capture.flush()
        new = max(tmp_path.glob("*.parquet"))
        then = (datetime.now() - timedelta(days=days)).timestamp()
        os.utime(new, (then, then))
    capture.flush()

    assert len(list(tmp_path.glob("*.parquet"))) == 1


def test_what_a_killed_process_left_is_removed_and_never_read(built: Repository, images: Any, tmp_path: Path) -> None:
    left = tmp_path / ".captured-1.999999.part.parquet"
    left.write_bytes(b"PAR1")

    capture = capturing(tmp_path)

    assert not left.exists()
    offer(capture, images)
    capture.flush()
    blocks = split_into_blocks(tmp_path, 1000, (28, 28))
    np.testing.assert_array_equal(np.concatenate([read_block(block, (28, 28)) for block in blocks]), images)
    np.testing.assert_array_equal(image_files.read_arrays(tmp_path, (28, 28)), images)  # what `make drift` reads


def test_a_full_disk_stops_no_request(built: Repository, images: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    capture = capturing(tmp_path)
    client = Client(opened(built.paths.onnx), capture=capture)
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))

    assert client.post("/invocations", {"inputs": images.tolist()}).status == 200
    capture.flush()

    assert rows(tmp_path) == []
    assert client.post("/invocations", {"inputs": images.tolist()}).status == 200


def test_what_is_not_written_yet_is_written_at_the_end(images: Any, tmp_path: Path) -> None:
    capture = capturing(tmp_path)
    capture.start()
    offer(capture, images)
    capture.stop()

    assert len(rows(tmp_path)) == len(images)
