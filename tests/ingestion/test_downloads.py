import pytest
import requests

from pipeline.ingestion import downloads
from pipeline.ingestion.errors import SourceRefusedError


@pytest.mark.parametrize(
    ("origin", "target", "refusal"),
    [
        ("https://example.org/", "https://example.com/", None),
        ("https://example.org/a", "b", None),
        ("https://example.org/", "HTTPS://EXAMPLE.COM/", None),
        ("http://127.0.0.1/", "http://localhost:8000/", None),
        ("http://127.0.0.1/", "https://example.org/", None),
        ("https://example.org/", "http://example.org/", "http:// is not accepted"),
        ("https://example.org/", "http://127.0.0.1/", "redirects from https to http"),
        ("https://example.org/", "ftp://example.org/", "ftp:// is not accepted"),
        ("http://127.0.0.1/", "http://example.org/", "http:// is not accepted"),
    ],
)
def test_redirects_to_unencrypted_sites_are_refused(origin: str, target: str, refusal: str | None) -> None:
    response = requests.Response()
    response.status_code, response.url, response.headers["location"] = 302, origin, target

    try:
        downloads.check_redirect(response)
        found = None
    except SourceRefusedError as error:
        found = str(error)

    assert (found or "").startswith(refusal or "")
    assert (found is None) == (refusal is None)
