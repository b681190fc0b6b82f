"""The Makefile: settings of the account and of the host change neither the set-up nor what a target does.

A stub stands for every Python and for uv. It records its arguments and its environment.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.imports import ROOT

# Creates its like in the environment that it is asked for, and answers what the Makefile asks of a Python.
STUB = """#!{python} -IS
import json, os, shutil, sys
arguments = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps([sys.argv[0], arguments, dict(os.environ)]) + "\\n")
if arguments[:2] == ["-m", "venv"]:
    os.makedirs(arguments[2] + "/bin")
    for name in ("python", "uv"):
        shutil.copy(sys.argv[0], arguments[2] + "/bin/" + name)
elif "print" in arguments[-1]:
    print("works")
"""

# A Python that the pipeline does not support, such as 3.14, and a uv that brings one that it does, or has no network.
UNSUPPORTED = "#!/bin/sh\nexit 1\n"
UV = """#!/bin/sh
echo "$*" >> "{folder}/uv-log"
case "$1 $2" in
"python install") {installs} ;;
"python find") [ -e "{folder}/a managed/python" ] && echo "{folder}/a managed/python" ;;
esac
"""

REDIRECTING = {
    "UV_SYSTEM_PYTHON": "1",
    "UV_PYTHON": "3.12",
    "UV_PROJECT_ENVIRONMENT": "/elsewhere",
    "UV_BREAK_SYSTEM_PACKAGES": "1",
    "UV_NO_VERIFY_HASHES": "1",
    "UV_WORKING_DIR": "/",
    "PIP_USER": "1",
    "PIP_TARGET": "/elsewhere",
    "PIP_PREFIX": "/elsewhere",
    "PIP_REQUIRE_VIRTUALENV": "1",
    "PYTHONHOME": "/elsewhere",
    "PYTHONPATH": "/elsewhere",
    "PYTHONSAFEPATH": "1",
    "PYTHONUSERBASE": "/elsewhere",
    "VIRTUAL_ENV": "/elsewhere",
    "CONDA_PREFIX": "/elsewhere",
}
WHENCE = {
    "UV_INDEX_URL": "https://packages.example/simple",
    "UV_DEFAULT_INDEX": "https://packages.example/simple",
    "UV_INDEX_COMPANY_PASSWORD": "secret",
    "UV_CACHE_DIR": "/cache",
    "UV_HTTP_TIMEOUT": "60",
    "PIP_INDEX_URL": "https://packages.example/simple",
    "PIP_FIND_LINKS": "/wheels",
    "PIP_CERT": "/certificates.pem",
    "PIP_DEFAULT_TIMEOUT": "60",
    "SSL_CERT_FILE": "/certificates.pem",
    "HTTPS_PROXY": "http://proxy.example:3128",
}
OPTIONS = {
    "ui": ["PORT"],
    "serve": ["PORT", "ALIAS"],
    "promote": ["FIRST", "TAG"],
    "rollback": ["TAG"],
    "retrain": ["SEED", "REQUIRE", "FIRST"],
    "sweep": ["RESUME"],
    "chaos": ["ONLY"],
}


class Checkout:
    """A folder with the Makefile, and a PATH on which every Python is the stub."""

    def __init__(self, root: Path, binaries: Path) -> None:
        self.root, self.binaries, self.log = root, binaries, binaries / "log"
        (root / "requirements").mkdir(parents=True)
        (root / ".git").mkdir()
        for name in (
            "Makefile",
            "requirements.txt",
            *(f"requirements/{path.name}" for path in ROOT.glob("requirements/*.txt")),
        ):
            shutil.copy(ROOT / name, root / name)
        binaries.mkdir()
        for name in ("python", "python3"):
            stub = STUB.format(python=sys.executable, log=str(self.log))
            (binaries / name).write_text(stub)
            (binaries / name).chmod(0o755)

    def make(self, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        path = f"{self.binaries}:/usr/bin:/bin"
        environment = {"PATH": path, "HOME": str(self.binaries), **settings}
        return subprocess.run(
            ["make", *arguments], cwd=self.root, env=environment, capture_output=True, text=True, check=False
        )

    def calls(self) -> list[tuple[str, list[str], dict[str, str]]]:
        """What ran since the last call: program, arguments, environment."""
        found: list[Any] = [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [(program, arguments, environment) for program, arguments, environment in found]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout", tmp_path / "bin")


@pytest.fixture(scope="module")
def set_up(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    root = tmp_path_factory.mktemp("make")
    checkout = Checkout(root / "checkout", root / "bin")
    done = checkout.make("setup", ".venv/.sweep", ".venv/.chaos", ".venv/.remote", ".venv/.team")
    assert done.returncode == 0, done.stderr
    return checkout


@pytest.fixture
def ready(set_up: Checkout) -> Checkout:
    """A checkout whose environment is set up."""
    set_up.calls()
    return set_up


def test_set_up_writes_into_the_environment_of_the_checkout_alone(checkout: Checkout) -> None:
    done = checkout.make("setup", ".venv/.sweep", **REDIRECTING, **WHENCE)

    assert done.returncode == 0, done.stderr
    calls = checkout.calls()
    installing = [(program, arguments) for program, arguments, _ in calls if "install" in arguments or "sync" in arguments]
    assert [program for program, _ in installing] == [".venv/bin/python", ".venv/bin/uv", ".venv/bin/uv"]
    assert [arguments[2:4] for _, arguments in installing[1:]] == [["--python", ".venv/bin/python"]] * 2
    assert {"--no-user", "--target=", f"--prefix={checkout.root}/.venv"} <= set(installing[0][1])
    for program, arguments, environment in calls:
        if "-I" not in arguments:  # the interpreter is only asked whether it starts, apart from its environment
            assert not REDIRECTING.keys() & environment.keys(), program
            assert WHENCE.items() <= environment.items(), program


def without_python(checkout: Checkout, uv: str | None) -> Path:
    """Leave no supported Python on the PATH of the checkout, and a uv that does `uv` when it shall install one."""
    folder = checkout.binaries
    managed = folder / "a managed"
    managed.mkdir()
    (folder / "python").rename(folder / "brought")
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        (folder / name).write_text(UNSUPPORTED)
        (folder / name).chmod(0o755)
    if uv is not None:
        (folder / "uv").write_text(UV.format(folder=folder, installs=uv.format(folder=folder)))
        (folder / "uv").chmod(0o755)
    return folder / "uv-log"


def test_uv_brings_a_python_where_there_is_only_another(checkout: Checkout) -> None:
    log = without_python(checkout, uv='cp "{folder}/brought" "{folder}/a managed/python"')

    done = checkout.make("setup")

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "setup     Python 3.13 by uv, because there is none from 3.11 to 3.13"
    creating = [program for program, arguments, _ in checkout.calls() if arguments[:2] == ["-m", "venv"]]
    assert creating == [str(checkout.binaries / "a managed" / "python")]
    assert [line.split()[1] for line in log.read_text().splitlines()] == ["find", "install", "find"]


def test_a_python_that_uv_has_brought_is_taken_again(checkout: Checkout) -> None:
    log = without_python(checkout, uv="exit 1")
    (checkout.binaries / "brought").rename(checkout.binaries / "a managed" / "python")

    done = checkout.make("setup")

    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in log.read_text().splitlines()] == ["find"]


@pytest.mark.parametrize("uv", [None, "echo no network >&2; exit 1"])
def test_where_neither_helps_one_line_says_so(uv: str | None, checkout: Checkout) -> None:
    without_python(checkout, uv)

    done = checkout.make("setup")

    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: expected Python 3.11, 3.12 or 3.13 with venv and pip, found none among: ")
    assert line.endswith(", nor by uv.")
    assert ("no network" in done.stderr) == (uv is not None)
    assert not (checkout.root / ".venv").exists()


def test_the_make_of_macos_is_enough(checkout: Checkout) -> None:
    """GNU make 3.81 takes .SHELLFLAGS for a variable like any other, and reads `override export NAME` as a name."""
    makefile = checkout.root / "Makefile"
    text = makefile.read_text()
    newer = r"(?m)^(override export|export override|\.ONESHELL|define \w+ [:?+]?=)|::=|!=|\$\((file|guile) "
    assert re.findall(newer, text) == []
    makefile.write_text("".join(line for line in text.splitlines(keepends=True) if not line.startswith(".SHELLFLAGS")))

    assert checkout.make("setup").returncode == 0
    assert (checkout.root / ".venv" / ".ready").exists()

    shutil.rmtree(checkout.root / ".venv")
    for name in ("python", "python3"):  # the first step of the set-up that can fail
        stub = checkout.binaries / name
        stub.write_text(
            stub.read_text().replace('elif "print" in', 'elif arguments[0] == "-Bc":\n    sys.exit(1)\nelif "print" in')
        )

    assert checkout.make("setup").returncode == 2
    assert not (checkout.root / ".venv").exists()


@pytest.mark.parametrize("noise", ["echo loaded", "false", "cd /; set -x; echo loaded >&2", "exit 3"])
def test_the_noise_of_a_shell_changes_nothing(noise: str, ready: Checkout, tmp_path: Path) -> None:
    (tmp_path / "noise").write_text(f"{noise}\n")
    quiet = ready.make("promote")
    expected = [arguments for _, arguments, _ in ready.calls()]

    done = ready.make("promote", BASH_ENV=str(tmp_path / "noise"), ENV=str(tmp_path / "noise"), CDPATH="/")

    assert (done.returncode, done.stdout, done.stderr) == (0, quiet.stdout, quiet.stderr)
    assert [arguments for _, arguments, _ in ready.calls()] == expected
    assert ["-m", "pipeline.promote"] in expected


def test_functions_of_the_shell_do_not_replace_commands(ready: Checkout) -> None:
    done = ready.make("setup", **{"BASH_FUNC_source%%": "() { exit 1; }", "BASH_FUNC_python%%": "() { exit 1; }"})

    assert done.returncode == 0, done.stderr
    assert (ready.root / ".venv" / ".ready").exists()
    assert [arguments for _, arguments, _ in ready.calls()] == [["-I", "-c", 'print("works")']]


def verb(checkout: Checkout) -> list[str]:
    """The arguments of the verb that a target ran, without `-m pipeline.<verb>`."""
    *_, (_, arguments, _) = checkout.calls()
    return arguments[2:]


@pytest.mark.parametrize("target", OPTIONS)
def test_an_option_counts_only_on_the_command_line(target: str, ready: Checkout) -> None:
    done = ready.make(target, **dict.fromkeys(OPTIONS[target], "1"))

    assert done.returncode == 0, done.stderr
    assert verb(ready)[:1] == (["tests/chaos"] if target == "chaos" else [])


def test_options_on_the_command_line_reach_the_verb_as_they_stand(ready: Checkout) -> None:
    given = {
        "ui": (["PORT=8080"], ["--port", "8080"]),
        "serve": (["ALIAS=a b", "PORT=0"], ["--port", "0", "--alias", "a b"]),
        "promote": (["TAG=1", "FIRST=yes"], ["--first", "--tag"]),
        "retrain": (["SEED=0", "REQUIRE=$(shell touch shell)`touch shell`'"], ["--seed", "0", "--require"]),
        "sweep": (["RESUME=1"], ["--resume"]),
        "drift": (["SOURCE=new images/#1", "CHECK=1"], ["new images/#1", "--check"]),
        "select": (["SOURCE=new images/#1"], ["new images/#1"]),
        "label": (["SOURCE=sorted images", "PORT=5004"], ["--port", "5004", "--from", "sorted images"]),
        "chaos": (["ONLY=tests/chaos/test_kills.py"], ["tests/chaos/test_kills.py"]),
    }
    for target, (arguments, expected) in given.items():
        done = ready.make(target, *arguments)
        assert done.returncode == 0, done.stderr
        literal = [argument.partition("=")[2] for argument in arguments if argument.startswith("REQUIRE=")]
        assert verb(ready) == expected + literal
    assert not (ready.root / "shell").exists()


@pytest.mark.parametrize("no", ["0", "", "no", "false"])
def test_a_flag_that_is_0_or_empty_means_no(no: str, ready: Checkout) -> None:
    done = ready.make("promote", f"TAG={no}", f"FIRST={no}")

    assert done.returncode == 0, done.stderr
    assert verb(ready) == []


def test_the_remote_is_set_from_the_command_line_alone(ready: Checkout) -> None:
    ready.make("remote", URL="s3://elsewhere")
    assert verb(ready) == [""]

    ready.make("remote", "URL=s3://store/a b")
    assert verb(ready) == ["s3://store/a b"]


def test_a_user_without_name_and_home_gets_both_and_a_cache_in_the_environment(checkout: Checkout) -> None:
    (checkout.binaries / "id").write_text('#!/bin/sh\n[ "$1" = -u ] && echo 4321')
    (checkout.binaries / "id").chmod(0o755)

    done = checkout.make("setup", HOME="/nowhere")

    assert done.returncode == 0, done.stderr
    _, _, environment = checkout.calls()[-1]
    assert (environment["USERNAME"], environment["HOME"]) == ("uid4321", "/nowhere")
    assert environment["UV_CACHE_DIR"] == f"{checkout.root}/.venv/cache"


@pytest.mark.parametrize("target", ["repro", "register", "retrain", "check", "sweep", "remote"])
def test_an_archive_without_a_repository_is_told_to_create_one(target: str, checkout: Checkout) -> None:
    (checkout.root / ".git").rmdir()

    done = checkout.make(target)

    assert done.returncode == 2
    assert done.stderr.splitlines()[:2] == [
        "error: expected a git repository, found none; a downloaded archive has none.",
        "Nothing was run. Run `git init` and rerun. To publish what you retrain, clone the repository instead.",
    ]
    assert checkout.calls() == []


def test_settings_of_make_move_no_environment(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()

    done = checkout.make("setup", "clean", MAKEFLAGS="ej4", VENV=str(tmp_path / "mine"), SHELL="/bin/false")

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mine").is_dir()


def test_make_chaos_runs_every_long_test() -> None:
    users = {
        path for path in (ROOT / "tests").rglob("*.py") if "chaos.conftest import LONG" in path.read_text(encoding="utf-8")
    } - {Path(__file__)}
    outside = sorted(path.relative_to(ROOT).as_posix() for path in users if path.parent.name != "chaos")

    planned = subprocess.run(["make", "--dry-run", "chaos"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    (command,) = [line for line in planned.splitlines() if "pytest" in line]
    assert outside
    assert command.split()[-len(outside) - 1 :] == ["tests/chaos", *outside]
