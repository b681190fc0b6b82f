import gzip
import itertools
import time
from pathlib import Path

import pytest

from pipeline.core.fetch_params import FetchParams
from pipeline.core.urls import redacted
from pipeline.ingestion import sources
from pipeline.ingestion.errors import SourceRefusedError
from tests import web
from tests.conftest import NAMES, Edit
from tests.web import Site

NAME = NAMES["train_labels"]
OTHER = NAMES["test_labels"]


@pytest.fixture
def limits(edit: Edit) -> FetchParams:
    return edit().fetch


def read(source: str, limits: FetchParams) -> bytes | None:
    """The content of the file NAME at `source`."""
    with sources.opened(source, NAME, limits) as stream:
        return stream.read() if stream else None


@pytest.mark.parametrize("spelling", [f"folder/{NAME}", f"folder/{NAME}.gz"])
@pytest.mark.parametrize("form", ["folder", "folder with a slash", "absolute", "single file"])
def test_a_local_file_is_found_plain_or_compressed(spelling: str, form: str, limits: FetchParams, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / spelling).write_bytes(gzip.compress(b"content") if spelling.endswith(".gz") else b"content")
    source = {"folder": "folder", "folder with a slash": "folder/", "absolute": str(tmp_path / "folder")}.get(form, spelling)

    assert read(source, limits) == b"content"


def test_compression_is_detected_by_content_not_by_name(limits: FetchParams, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(gzip.compress(b"content"))

    assert read(".", limits) == b"content"


def test_a_folder_may_have_the_name_of_its_file(limits: FetchParams, tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / NAME).write_bytes(b"content")

    assert read(NAME, limits) == b"content"


@pytest.mark.parametrize("source", [".", OTHER])
def test_a_source_without_the_file_gives_none(source: str, limits: FetchParams, tmp_path: Path) -> None:
    (tmp_path / OTHER).write_bytes(b"content")

    assert read(source, limits) is None


@pytest.mark.parametrize(
    ("source", "reason"),
    [("nowhere", "no such file or folder"), ("x" * 300, "File name too long")],
    ids=["absent", "too long"],
)
def test_a_local_source_that_cannot_be_used_is_refused(source: str, reason: str, limits: FetchParams) -> None:
    with pytest.raises(SourceRefusedError, match=f"^{reason}$"):
        read(source, limits)


def test_the_compressed_file_is_requested_before_the_plain_one(site: Site, limits: FetchParams) -> None:
    site.answers[f"/folder/{NAME}"] = web.content(b"content")

    assert read(f"{site.url}folder", limits) == b"content"
    assert site.asked == [f"/folder/{NAME}.gz", f"/folder/{NAME}"]


@pytest.mark.parametrize("code", [403, 404])
def test_a_site_may_answer_403_for_a_file_that_it_does_not_have(code: int, site: Site, limits: FetchParams) -> None:
    site.answers = {f"/{NAME}.gz": web.status(code), f"/{NAME}": web.content(b"content")}

    assert read(site.url, limits) == b"content"


def test_the_address_of_one_file_is_not_used_for_another(site: Site, limits: FetchParams) -> None:
    assert read(f"{site.url}{OTHER}.gz", limits) is None
    assert site.asked == []


@pytest.mark.parametrize("path", ["/folder", f"/folder/{NAME}.gz"])
def test_the_query_of_an_address_is_kept(path: str, site: Site, limits: FetchParams) -> None:
    site.answers[f"/folder/{NAME}.gz?signature=1/2"] = web.content(b"content")

    assert read(f"{site.url.rstrip('/')}{path}?signature=1/2", limits) == b"content"


def test_a_redirect_is_followed(site: Site, limits: FetchParams) -> None:
    site.answers = {f"/{NAME}.gz": web.redirect("/mirror/1"), "/mirror/1": web.content(b"content")}

    assert read(site.url, limits) == b"content"


def test_a_download_stops_at_the_maximum_size(site: Site, limits: FetchParams) -> None:
    site.answers[f"/{NAME}.gz"] = web.content(bytes(100_000))

    with pytest.raises(SourceRefusedError, match=r"^more than 50,000 bytes \(fetch.max_bytes\)$"):
        read(site.url, limits.model_copy(update={"max_bytes": 50_000}))

    assert read(site.url, limits.model_copy(update={"max_bytes": 100_000})) == bytes(100_000)


def test_the_deadline_also_applies_to_unpacking(site: Site, limits: FetchParams, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python reads the zeros that may follow a gzip file byte by byte."""
    site.answers[f"/{NAME}.gz"] = web.content(gzip.compress(b"content") + bytes(1_000_000))
    clock = itertools.count()
    monkeypatch.setattr(sources.time, "monotonic", lambda: next(clock))

    with pytest.raises(SourceRefusedError, match=r"^not unpacked after 120 s \(fetch.deadline\)$"):
        read(site.url, limits)


def test_the_body_of_a_redirect_is_not_read(site: Site, limits: FetchParams) -> None:
    """By default, requests reads the whole body before it follows the redirect."""
    endless = web.chunked(itertools.repeat(bytes(1 << 16)), ("Location", "/mirror/1"), code=302)
    site.answers = {f"/{NAME}.gz": endless, "/mirror/1": web.content(b"content")}

    assert read(site.url, limits.model_copy(update={"deadline": 5.0})) == b"content"


def test_the_deadline_also_applies_to_a_file_of_unknown_length(site: Site, limits: FetchParams) -> None:
    sent = []

    def drip(handler: web.Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not handler.server.closing.wait(0.02):
            handler.wfile.write(b"x")
            sent.append(b"x")

    site.answers[f"/{NAME}.gz"] = drip

    with pytest.raises(SourceRefusedError, match=r"^not complete after 0.5 s \(fetch.deadline\)$"):
        read(site.url, limits.model_copy(update={"deadline": 0.5}))

    assert len(sent) < 1024  # less than a chunk: the deadline does not wait for a whole one


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("http://example.org/mnist/", "http:// is not accepted: expected https, a file or a folder"),
        ("http://127.0.0.1@example.org/", "http:// is not accepted: expected https, a file or a folder"),
        ("http://127.0.0.1.example.org/", "http:// is not accepted: expected https, a file or a folder"),
        ("ftp://example.org/mnist/", "ftp:// is not accepted: expected https, a file or a folder"),
        ("s3://bucket/mnist/", "s3:// is not accepted: expected https, a file or a folder"),
        ("file:///mnist/", "file:// is not accepted: expected https, a file or a folder"),
        ("https://[::1/", "not an address"),
        ("https://.example.org/", "not an address"),
        ("https://127.0.0.1:99999/", "not an address"),
    ],
)
def test_an_invalid_address_is_refused_without_a_request(source: str, reason: str) -> None:
    assert sources.unreachable([source], timeout=2) == {source: reason}


def test_folders_and_responding_sites_are_reachable(site: Site) -> None:
    assert sources.unreachable(["nowhere", site.url], timeout=2) == {}


def test_a_site_that_does_not_speak_https_is_refused_with_the_cause(site: Site) -> None:
    source = site.url.replace("http:", "https:")

    assert "SSL" in sources.unreachable([source], timeout=2)[source]


def test_a_site_that_drops_the_connection_is_unreachable(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.Handler, "do_HEAD", lambda handler: None)

    assert sources.unreachable([site.url], timeout=2) == {site.url: "the connection broke off"}


def test_sites_are_probed_in_parallel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with web.silent() as address:
        silent = [f"{address}{number}" for number in range(20)]

        start = time.monotonic()
        reasons = sources.unreachable(silent, timeout=1)
        took = time.monotonic() - start

    assert took < 5
    assert set(reasons) == set(silent)
    assert set(reasons.values()) <= {"no answer in 1 s", "no answer in time"}


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://user:secret@example.org:8443/a/b?key=secret#secret", "https://example.org:8443/a/b"),
        ("https://secret@example.org", "https://example.org"),
        ("https://example.org?key=secret", "https://example.org"),
        ("https://example.org/package@1.0/", "https://example.org/package@1.0/"),
        ("https://user:secret@[::1/", "https://[::1/"),
        ("postgresql://user:secret@host/mlflow", "postgresql://host/mlflow"),
        ("sqlite:////home/me/mlruns/mlflow.db", "sqlite:////home/me/mlruns/mlflow.db"),
        ("data/embedded/", "data/embedded/"),
    ],
)
def test_addresses_are_shown_without_credentials(address: str, shown: str) -> None:
    assert redacted(address) == shown
