import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core.paths import Paths
from tests.imports import ROOT

REFUSED = {
    "what?": "'?'",
    "50%": "'%'",
    "a:b": "':'",
    "a{b": "'{'",
    'a"b': "'\"'",
    "a\\b": "'\\\\'",
    "a\nb": "'\\n'",
    "caf\udce9": "other bytes",
}


@pytest.mark.parametrize("name", ["#1 &;|<>!~", "a'b", "$HOME`id`", "[x] (y) *", "-x", "\u65e5\u672c \U0001f600"])
def test_folders_with_other_characters_are_accepted(name: str, tmp_path: Path) -> None:
    assert Paths(tmp_path / name).refusal() is None


@pytest.mark.parametrize("name", REFUSED)
def test_a_folder_that_some_library_does_not_take_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    command = [sys.executable, "-m", "pipeline.fetch"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    done = subprocess.run(command, cwd=tmp_path / name, env=environment, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert (
        f'expected a folder whose path is UTF-8, without line breaks and : {{ }} ? % " \\, found {REFUSED[name]}'
        in done.stderr
    )
    assert done.stderr.endswith("Nothing was written. Rename the folder, or move the checkout to another one, and rerun.\n")
    assert (os.listdir(tmp_path), os.listdir(tmp_path / name)) == ([name], [])
