import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.core import console, versions
from pipeline.core.paths import Paths
from tests.conftest import Edit


@pytest.fixture
def paths(edit: Edit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A tree that locks two packages. This process has imported one of them, in a version that is not locked."""
    edit()
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "versions.yaml").write_text('other-package: "1.0"\nsome-package: ["1.0", "2.0"]\n')
    monkeypatch.setitem(sys.modules, "some_package", SimpleNamespace(__version__="3.0"))
    monkeypatch.setattr(sys, "argv", ["stage"])
    return Paths()


def test_a_stage_warns_in_one_line_about_a_version_that_is_not_locked(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    assert console.run_stage("tiny", lambda params, paths: "done") == 0

    printed = capsys.readouterr().out.splitlines()
    assert printed[1:] == [
        "tiny      warning: ran with some-package 3.0 (locked: 1.0 or 2.0); `make setup` installs the locked versions"
    ]


def test_a_locked_version_is_no_mismatch(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "some_package", SimpleNamespace(__version__="2.0"))

    assert versions.mismatches(versions.locked(paths)) == []


def test_a_tree_without_a_lock_has_no_locked_versions(tmp_path: Path) -> None:
    assert versions.locked(Paths(tmp_path)) == {}
