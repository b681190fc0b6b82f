"""Start real servers for tests."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.imports import ROOT


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def mlflow_server(
    folder: Path,
    store: str = "",
    workers: int = 1,
    password: str = "",
    port: int = 0,
    artifacts: str = "",
    variables: Mapping[str, str] | None = None,
) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Start an MLflow server; yield its address and its process. `variables` belong to its environment alone.

    The store is SQLite in `folder`, and artifacts are files there, unless `store` and `artifacts` name others.
    With a password, only the user admin has access.
    """
    uri = f"http://127.0.0.1:{(port := port or free_port())}"
    store, artifacts = store or f"sqlite:///{folder}/server.db", artifacts or str(folder / "artifacts")
    if password:
        command = [str(ROOT / "team" / "server.sh")]
        settings = {"STORE": store, "ARTIFACTS": artifacts, "PASSWORD": password, "SECRET": "of the tests"}
        settings |= {"PORT": str(port), "WORKERS": str(workers), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    else:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--workers", str(workers), "--backend-store-uri", store, "--artifacts-destination", artifacts]
        settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment = os.environ | settings | dict(variables or {})
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        wait_until_healthy(uri, process)
        yield uri, process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def verb(
    module: str, root: Path, port: int, *arguments: str, host: str = "127.0.0.1", **settings: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `python -m pipeline.<module> --port <port>` in the tree at `root`, on its store; yield when it answers at `host`."""
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    process = subprocess.Popen(
        [sys.executable, "-m", f"pipeline.{module}", "--port", str(port), *arguments],
        cwd=root,
        env=environment | {"PYTHONPATH": str(ROOT)} | settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until_healthy(f"http://{host}:{port}", process)
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Start a PostgreSQL cluster with an empty database; yield its URI."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        pytest.skip("no PostgreSQL server is installed (Debian: apt install postgresql)")
    binaries, data, port = programs[-1].parent, folder / "cluster", free_port()
    # PostgreSQL refuses to run as root.
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
    data.mkdir()
    if user:
        shutil.chown(data, "postgres", "postgres")
        for parent in folder.parents[: len(folder.parents) - 2]:
            parent.chmod(parent.stat().st_mode | 0o011)
        folder.chmod(0o755)
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": "/"}
    owner = ["--username=mlflow", "--auth=trust", "--encoding=UTF8", "--no-sync", "-D", str(data)]
    subprocess.run([*user, str(binaries / "initdb"), *owner], **quiet)
    options = ["-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={data}"]
    process = subprocess.Popen(
        [*user, str(binaries / "postgres"), "-D", str(data), *options], cwd="/", stderr=subprocess.DEVNULL
    )
    try:
        _wait_until_open(port, process, folder)
        address = ["--host=127.0.0.1", f"--port={port}", "--username=mlflow"]
        while subprocess.run([str(binaries / "pg_isready"), *address, "--quiet"], check=False).returncode:
            assert process.poll() is None, "the server ended"  # the port opens before the server accepts clients
            time.sleep(0.05)
        subprocess.run([str(binaries / "createdb"), *address, "mlflow"], **quiet)
        yield f"postgresql://mlflow@127.0.0.1:{port}/mlflow"
    finally:
        process.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown: it disconnects clients
        process.wait()


def wait_until_healthy(uri: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(1800):
        try:
            requests.get(f"{uri}/health", timeout=1)
        except requests.RequestException:
            assert process.poll() is None, "the server ended"
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the server did not start")


@contextmanager
def ssh_server(folder: Path) -> Iterator[tuple[int, Path]]:
    """Start an OpenSSH server for the user who runs the tests; yield its port and the key that it accepts."""
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if not sshd or not shutil.which("ssh-keygen"):
        pytest.skip("no OpenSSH server is installed (Debian: apt install openssh-server)")
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    shutil.copy(folder / "client.pub", folder / "authorized")
    port = free_port()
    settings = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "authorized",
        "PidFile": folder / "pid",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "Subsystem": "sftp internal-sftp",
    }
    (folder / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd needs it to drop its privileges
    with (folder / "sshd.log").open("wb") as log:
        process = subprocess.Popen([sshd, "-D", "-e", "-f", str(folder / "sshd_config")], stdout=log, stderr=log)
    try:
        _wait_until_open(port, process, folder / "sshd.log")
        yield port, folder / "client"
    finally:
        process.kill()
        process.wait()


BUCKET = "bucket"


def s3_client(variables: Mapping[str, str], service: str = "s3") -> Any:
    """Botocore's client, for what no command of the project does. `variables` as they stand in an environment."""
    from botocore.session import Session

    keys = {name.lower(): variables[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    return Session().create_client(service, "us-east-1", endpoint_url=variables["AWS_ENDPOINT_URL"], **keys)


@contextmanager
def s3_server(folder: Path) -> Iterator[dict[str, str]]:
    """Start a server of S3 with `BUCKET`; yield the variables of its only user. It refuses all other credentials."""
    pytest.importorskip("moto", reason="no server of S3 is installed: requirements/chaos.txt")
    port = free_port()
    command = ["-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    (empty := folder / "empty").touch()
    alone = {"AWS_CONFIG_FILE": str(empty), "AWS_SHARED_CREDENTIALS_FILE": str(empty), "AWS_EC2_METADATA_DISABLED": "true"}
    unchecked = {"INITIAL_NO_AUTH_ACTION_COUNT": "4"}  # the requests below
    with (folder / "s3.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, *command], env=os.environ | unchecked, stdout=log, stderr=log)
    try:
        _wait_until_open(port, process, folder / "s3.log")
        account = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
        iam = s3_client(account, "iam")
        everything = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [everything]})
        iam.create_user(UserName="team")
        iam.put_user_policy(UserName="team", PolicyName="all", PolicyDocument=policy)
        key = iam.create_access_key(UserName="team")["AccessKey"]
        s3_client(account).create_bucket(Bucket=BUCKET)
        yield alone | account | {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
    finally:
        process.kill()
        process.wait()


def _wait_until_open(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(200):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    raise AssertionError(log.read_text())
