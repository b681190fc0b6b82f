"""Make the Data Docs of Great Expectations reproducible: equal results give pages with equal bytes."""

import datetime
import logging
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Data Docs write the current time and random identifiers into their pages.
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BEACON = re.compile(r"(logo-long\.png)\?d=\w+(?:\.\w+)?")
_TIME = re.compile(r"\b20\d{6}T\d{6}\.\d{6}Z\b|\b(?:1969-12-31|1970-01-01)[T ]\d\d:\d\d:\d\d(?:Z| [\w+-]+)")

_UNNAMED = " Data asset: None<br>"  # Great Expectations looks for the name where its older versions put it

SITE = "docs"

# The index shows the local time, and Great Expectations fails on a TZ in POSIX form, such as JST-9.
UTC = {"TZ": "UTC"}


def site(folder: str) -> dict[str, Any]:
    """The settings of a site in `folder`, whose dollar signs Great Expectations would take for variables."""
    return {
        "class_name": "SiteBuilder",
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "show_how_to_buttons": False,
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": folder.replace("$", r"\$")},
    }


@contextmanager
def whole() -> Iterator[None]:
    """Raise errors, such as a full disk, that Great Expectations only logs while it leaves out the page."""
    failed: list[BaseException] = []

    def keep(record: logging.LogRecord) -> bool:
        if error := sys.exc_info()[1]:
            failed.append(error)
        return error is None

    builder = logging.getLogger("great_expectations.render.renderer.site_builder")
    builder.addFilter(keep)
    try:
        yield
    finally:
        builder.removeFilter(keep)
    if failed:
        raise failed[0]


def finish(folder: Path, subject: Callable[[str], str]) -> None:
    """Make the pages in `folder` reproducible, and link each from the index.

    Args:
        subject: returns the link text for the name of a suite.
    """
    _settle(folder)
    _link(folder, subject)
    shutil.rmtree(folder / "static")  # 4 MB that the pages do not use


def _settle(folder: Path) -> None:
    """Number the random identifiers, and remove times and the logo's tracking query."""
    for page in sorted(folder.rglob("*.html")):
        text = _TIME.sub("time not recorded", _BEACON.sub(r"\1", page.read_text(encoding="utf-8")))
        for number, identifier in enumerate(dict.fromkeys(_UUID.findall(text))):
            text = text.replace(identifier, f"id-{number}")
        page.write_text(text.replace(_UNNAMED, ""), encoding="utf-8")


def _link(folder: Path, subject: Callable[[str], str]) -> None:
    """Link the pages in the heading of the index: its table needs scripts from the internet."""
    index = folder / "index.html"
    pages = {page.relative_to(folder).parts[1]: page.relative_to(folder) for page in folder.glob("validations/**/*.html")}
    links = " | ".join(
        f'<a href="{page.as_posix()}">{subject(name)}</a>' for name, page in sorted(pages.items(), reverse=True)
    )
    text = index.read_text(encoding="utf-8")
    index.write_text(text.replace(f"</strong> | {SITE}", f"</strong> | {links}"), encoding="utf-8")
