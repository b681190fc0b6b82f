"""`make remote`: the address is where clones see it, and credentials are not."""

import argparse
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import remote
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.promotion import dvc_remote
from pipeline.promotion.errors import DvcRemoteError
from tests.conftest import Edit
from tests.published import person


@pytest.fixture
def params(edit: Edit, tmp_path: Path) -> Iterator[Params]:
    """An empty project, in the current folder."""
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    with person():
        yield edit()


def record(url: str, params: Params) -> None:
    remote.run(argparse.Namespace(url=url), params, Paths())


@pytest.mark.parametrize(
    "url", ["s3://bucket/path", "ssh://ada@host/srv/dvc", "ssh://host:2222/srv/dvc", "/srv/dvc", "https://host/dvc"]
)
def test_the_address_is_recorded_where_clones_see_it(url: str, params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    record(url, params)

    assert f"url = {url}" in Path(".dvc/config").read_text()
    assert "analytics = false" in Path(".dvc/config").read_text()
    assert dvc_remote.recorded(Path()) == url
    assert f"remote    {url} is in .dvc/config; commit that file" in capsys.readouterr().out


def test_a_relative_folder_is_recorded_as_an_absolute_one(params: Params, tmp_path: Path) -> None:
    record("store", params)

    assert dvc_remote.recorded(Path()) == str(tmp_path / "store")


@pytest.mark.parametrize(
    "url",
    ["https://ada:hunter2@host/dvc", "https://token@host/dvc", "ssh://ada:hunter2@host/srv", "https://host/a?token=hunter2"],
)
def test_an_address_with_credentials_is_refused(url: str, params: Params) -> None:
    before = Path(".dvc/config").read_text()

    with pytest.raises(DvcRemoteError, match=r"an address without credentials.*, found https?|ssh://host/\w+\.") as refused:
        record(url, params)

    assert "hunter2" not in str(refused.value)
    assert Path(".dvc/config").read_text() == before


def test_an_address_of_this_checkout_gives_way_and_its_credentials_stay(params: Params) -> None:
    Path(".dvc/config.local").write_text(
        "[core]\n    remote = store\n['remote \"store\"']\n    url = ssh://host/old\n    keyfile = /key\n"
    )

    record("ssh://host/new", params)

    assert dvc_remote.address(Path()) == "ssh://host/new"
    assert "keyfile = /key" in Path(".dvc/config.local").read_text()


@pytest.mark.parametrize(("recorded", "printed"), [("s3://bucket/path", "s3://bucket/path"), ("", "none: URL is empty")])
def test_without_a_url_the_recorded_one_is_printed(
    recorded: str, printed: str, params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    if recorded:
        record(recorded, params)
    capsys.readouterr()

    record("", params)

    assert capsys.readouterr().out.startswith(f"remote    {printed}")
