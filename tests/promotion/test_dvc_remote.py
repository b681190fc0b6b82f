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
from pipeline.promotion.repository import Repository
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
    assert f"remote    {url} is in .dvc/config; try it with `dvc push`, then commit that file" in capsys.readouterr().out


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


def test_the_advice_for_a_bucket_names_the_settings_of_a_bucket(params: Params) -> None:
    with pytest.raises(DvcRemoteError, match="dvc remote modify --local store secret_access_key"):
        record("s3://key:hunter2@bucket/path", params)


def test_a_new_address_of_the_same_kind_keeps_the_other_settings(params: Params) -> None:
    """CI records the address before each cycle; the endpoint of a bucket is in the same section."""
    record("s3://old/path", params)
    Repository(Path().absolute()).dvc("remote", "modify", "store", "endpointurl", "https://minio.example.org")

    for url in ("s3://old/path", "s3://new/path"):
        record(url, params)

        assert dvc_remote.recorded(Path()) == url
        assert "endpointurl = https://minio.example.org" in Path(".dvc/config").read_text()

    record("ssh://host/srv", params)  # which has no endpointurl

    assert dvc_remote.recorded(Path()) == "ssh://host/srv"
    assert "endpointurl" not in Path(".dvc/config").read_text()


@pytest.mark.parametrize(
    ("option", "value"),
    [("secret_access_key", "hunter2"), ("session_token", "hunter2"), ("endpointurl", "https://ada:hunter2@minio.example.org")],
)
def test_credentials_beside_the_address_are_refused_before_anybody_commits_them(
    option: str, value: str, params: Params
) -> None:
    record("s3://bucket/path", params)
    Repository(Path().absolute()).dvc("remote", "modify", "store", option, value)

    with pytest.raises(DvcRemoteError) as refused:
        record("s3://other/path", params)

    assert f"expected .dvc/config without credentials, because it is in git, found {option} of store." in str(refused.value)
    assert f"`dvc remote modify --unset store {option}`" in str(refused.value)
    assert f"`dvc remote modify --local store {option} ...`" in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert dvc_remote.recorded(Path()) == "s3://bucket/path"


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
