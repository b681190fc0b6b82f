"""Attacks on the commands and servers: no secret leaks, and no planted code runs."""

import base64
import contextlib
import http.client
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import psutil
import pytest
from ruamel.yaml import YAML

from pipeline import serve, train
from pipeline.core import files
from pipeline.core.errors import PipelineError
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data import datasets, npz
from pipeline.data.datasets import Split
from pipeline.data.errors import IdxError
from pipeline.promotion.errors import RepositoryError
from pipeline.promotion.repository import Repository as Publisher
from pipeline.promotion.upstream import Upstream
from pipeline.serving import image_files
from pipeline.serving.access import TOKEN
from pipeline.serving.errors import BrokenContractError
from pipeline.serving.model_source import open_model
from pipeline.tracking.errors import AlteredModelError, CredentialsError
from pipeline.training import snapshots
from tests import web
from tests.chaos.conftest import LONG, Chaos
from tests.clones import git, make_clone
from tests.conftest import NAMES, Repository, edit_params, idx
from tests.imports import ROOT
from tests.servers import free_port, mlflow_server, verb

KIND = "Security"
SECRET = "hunter2" * 3  # not a literal, because the tests search files for it
NAME = "model.example"
OTHER_ADDRESS = "127.0.0.2"  # of this machine, but not the default of the servers


# Start Ray like `python -m pipeline.score --ray`. The folder of its session contains its sockets.
LOCAL_RAY = """
import json, sys
from pipeline.distributed import batch_predict, cluster
import ray
with cluster.connected():
    ray.get(ray.remote(lambda: 0).remote())
    session = ray.nodes()[0]["ObjectStoreSocketName"].rpartition("/sockets/")[0]
    print(json.dumps({"gcs": ray.get_runtime_context().gcs_address, "session": session}), flush=True)
    sys.stdin.read()
"""


# Not `ray status`, which is public: it retries for minutes without a token.
ASK_RAY = (
    "import sys; from ray._raylet import GcsClient; print(GcsClient(address=sys.argv[1]).internal_kv_keys(b'', b'session'))"
)


@dataclass
class Server:
    """A running server, a valid request, and the credentials for it."""

    host: str
    port: int
    name: str
    process: int
    good: tuple[str, str, bytes] = ("GET", "/", b"")
    credentials: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes, dict[str, str]]:
        """Send a raw request; return the status, the body and the headers of the response."""
        sent = {"Host": f"{self.name}:{self.port}", "Content-Type": "application/json", **self.credentials}
        sent |= {key.replace("_", "-"): value for key, value in headers.items()}
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_host=True)
            for key, value in (sent | {"Content-Length": str(len(body))}).items():
                connection.putheader(key, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.read(), {key.lower(): value for key, value in answer.getheaders()}


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


@pytest.fixture(scope="module")
def team_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("team")
    (folder / "secret.txt").write_text(SECRET)
    return folder


@pytest.fixture(scope="module")
def servers(built: Repository, team_folder: Path) -> Iterator[dict[str, Server]]:
    """`make ui`, the team's server, and `make serve` exposed on another address."""
    tree, token, ui, serving = built.paths.root, {TOKEN: SECRET}, free_port(), free_port()
    vectors = {"inputs": files.read_json(built.paths.contract)["test_vectors"]["image"]}
    exposed = ("--host", OTHER_ADDRESS, "--expose", NAME, "--alias", "challenger")
    with contextlib.ExitStack() as stack:
        shown = stack.enter_context(verb("ui", tree, ui, MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE="1"))
        served = stack.enter_context(verb("serve", tree, serving, *exposed, host=OTHER_ADDRESS, **token))
        uri, process = stack.enter_context(mlflow_server(team_folder, workers=1, password=SECRET))
        yield {
            "ui": Server("127.0.0.1", ui, "127.0.0.1", shown.pid),
            "team": Server(
                *("127.0.0.1", int(uri.rpartition(":")[2]), "localhost", process.pid),
                credentials={"Authorization": basic("admin", SECRET)},
            ),
            "serve": Server(
                *(OTHER_ADDRESS, serving, NAME, served.pid),
                good=("POST", "/invocations", json.dumps(vectors).encode()),
                credentials={"Authorization": f"Bearer {SECRET}"},
            ),
        }


def listening(process: int) -> set[str]:
    """Return the addresses on which a process and its children listen."""
    tree = [psutil.Process(process), *psutil.Process(process).children(recursive=True)]
    return {entry.laddr.ip for each in tree for entry in each.net_connections() if entry.status == psutil.CONN_LISTEN}


@dataclass
class LocalRay:
    """Ray on this machine: its first process, GCS address, session folder, token and home folder."""

    process: int
    gcs: str
    session: Path
    token: str
    home: Path


@pytest.fixture(scope="module")
def local_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRay]:
    """Ray, started in an environment that disables tokens for clusters."""
    pytest.importorskip("ray", reason="Ray is not installed (make .venv/.sweep)")
    home = tmp_path_factory.mktemp("home")
    environment = environment_without_ray() | {"PYTHONPATH": str(ROOT), "HOME": str(home), "RAY_AUTH_MODE": "disabled"}
    process = subprocess.Popen(
        [sys.executable, "-c", LOCAL_RAY], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:  # leaving the block closes stdin, which ends it
        assert process.stdout is not None
        addresses = json.loads(process.stdout.readline())
        gcs = next(each for each in psutil.Process(process.pid).children() if each.name() == "gcs_server")
        token = gcs.environ().get("RAY_AUTH_TOKEN", "")
        yield LocalRay(process.pid, addresses["gcs"], Path(addresses["session"]), token, home)


def environment_without_ray() -> dict[str, str]:
    """Return the environment without Ray's variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


def test_servers_listen_on_their_configured_address_only(servers: dict[str, Server], chaos: Chaos) -> None:
    reached = 0
    others = {entry.address for each in psutil.net_if_addrs().values() for entry in each if entry.family == socket.AF_INET}
    for server in servers.values():
        assert server.ask(*server.good)[0] == 200
        assert listening(server.process) == {server.host}
        for address in sorted({*others, "127.0.0.1", "127.0.0.3"} - {server.host}):
            with contextlib.suppress(OSError), socket.create_connection((address, server.port), timeout=2):
                reached += 1

    chaos.count(KIND, "a connection to a server by another address of the machine", len(servers), len(servers), reached)


@pytest.mark.skipif(not LONG, reason="starts Ray")
def test_a_local_ray_listens_on_127_0_0_1_only(local_ray: LocalRay, chaos: Chaos) -> None:
    tree = [psutil.Process(local_ray.process), *psutil.Process(local_ray.process).children(recursive=True)]
    sockets = [entry.laddr for each in tree for entry in each.net_connections() if entry.status == psutil.CONN_LISTEN]
    assert {"gcs_server", "raylet"} <= {each.name() for each in tree}
    assert len(sockets) >= 5  # of the driver, the GCS, the raylet (two), its agent, and the workers

    assert {at.ip.removeprefix("::ffff:") for at in sockets} == {"127.0.0.1"}
    reached, own = 0, psutil.net_if_addrs().values()
    others = {entry.address for each in own for entry in each if entry.family in (socket.AF_INET, socket.AF_INET6)}
    attempts = [(address, at.port) for address in sorted({*others, OTHER_ADDRESS} - {"127.0.0.1"}) for at in sockets]
    for each in attempts:
        with contextlib.suppress(OSError), socket.create_connection(each, timeout=2):
            reached += 1

    chaos.count(KIND, "a connection to the local Ray by another address", len(attempts), len(attempts) - reached)


@pytest.mark.skipif(not LONG, reason="starts Ray")
def test_a_local_ray_answers_only_with_the_token_of_this_run(local_ray: LocalRay, chaos: Chaos) -> None:
    """Neither other users of this machine nor web pages get an answer."""
    old = local_ray.home / "old"
    old.write_text("of an earlier run")
    strangers = [
        {},
        {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": SECRET},
        {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(old)},
    ]
    refused = [ask_ray(local_ray, **each) for each in strangers]
    agent = next(
        entry.laddr
        for each in psutil.Process(local_ray.process).children(recursive=True)
        if "RuntimeEnvAgent" in " ".join(each.cmdline())
        for entry in each.net_connections()
        if entry.status == psutil.CONN_LISTEN
    )
    statuses = []
    for headers in ({}, {"Authorization": f"Bearer {SECRET}"}):
        connection = http.client.HTTPConnection(agent.ip, agent.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("POST", "/get_runtime_envs_info", headers=headers)
            statuses.append(connection.getresponse().status)

    allowed = ask_ray(local_ray, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=local_ray.token)
    assert allowed.returncode == 0, allowed.stderr
    assert len(local_ray.token) >= 32
    assert not (local_ray.home / ".ray").exists()  # where Ray would keep one token for all runs
    assert files_with(local_ray.token, local_ray.session) == []
    survived = sum(each.returncode != 0 and "AuthenticationError" in each.stderr for each in refused)
    survived += sum(status in (401, 403) for status in statuses)
    chaos.count(KIND, "a request to the local Ray without its token", len(refused) + len(statuses), survived)


def ask_ray(ray: LocalRay, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Query the control store of a running Ray from another process, as any user of this machine can."""
    home = {"HOME": str(ray.home)}
    command = [sys.executable, "-c", ASK_RAY, ray.gcs]
    return subprocess.run(
        command, env=environment_without_ray() | home | settings, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_request_with_another_host_name_is_refused(servers: dict[str, Server], chaos: Chaos) -> None:
    """DNS rebinding: an attacker's domain resolves to this machine, so its page can send requests to the server."""
    names = ["evil.example", "10.evil.example", "192.168.evil.example", "172.16.evil.example", "0.0.0.0", "", "[", "[::1"]  # noqa: S104 - a name
    names += ["{}.evil.example", "evil.example:{}", "localhost.evil.example:{}", "fd00:evil.example", "10.0.0.1:{}", "*"]
    names = names[: chaos.tries(8, len(names))]
    refused = [server.ask(*server.good, Host=name.format(server.port))[0] for server in servers.values() for name in names]

    assert all(server.ask(*server.good)[0] == 200 for server in servers.values())
    survived = sum(status in (400, 403) for status in refused)
    chaos.count(KIND, "a request with another host name (DNS rebinding)", len(refused), survived)


def test_cross_site_requests_neither_change_nor_read_anything(servers: dict[str, Server], chaos: Chaos) -> None:
    origins = ["http://evil.example", "null", "http://127.0.0.1.evil.example", "https://localhost.evil.example", "http://["]
    origins = origins[: chaos.tries(2, len(origins))]
    writes = [
        ("POST", "/api/2.0/mlflow/experiments/create", b'{"name": "evil"}'),
        ("POST", "/ajax-api/2.0/mlflow/experiments/create", b'{"name": "evil"}'),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/evil.txt", b"evil"),
        ("DELETE", "/api/2.0/mlflow-artifacts/artifacts/evil.txt", b""),
    ]
    tries = survived = lost = 0
    for server in servers.values():
        for origin in origins:
            for method, path, body in [server.good] if server.name == NAME else writes:
                status, *_ = server.ask(method, path, body, Origin=origin, Content_Type="text/plain")
                tries, survived = tries + 1, survived + (status in (400, 403))
            preflight = {"Origin": origin, "Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "x"}
            for method, path, body in (server.good, ("OPTIONS", writes[0][1], b"")):
                _, _, headers = server.ask(method, path, body, **preflight)
                tries, survived = tries + 1, survived + ("access-control-allow-origin" not in headers)
        if server.name != NAME:
            lost += server.ask("GET", "/api/2.0/mlflow/experiments/get-by-name?experiment_name=evil")[0] != 404

    chaos.count(KIND, "a cross-site request", tries, survived, lost)


def escapes(target: str) -> list[str]:
    """Return URL-encoded paths that lead from a folder to `target` outside it."""
    up = [f"{'../' * depth}{target}" for depth in (1, 2, 3, 6)]
    encoded = [path.replace("../", each) for path in up for each in ("..%2f", "%2e%2e/", "%2e%2e%2f", "%252e%252e%252f")]
    slashed = [f"..%5c..%5c{target}", f"....//{target}", f"a/../../{target}", f"..;/{target}", f"%00../{target}"]
    absolute = [f"//etc/{target}", f"%2fetc%2f{target}", f"%252fetc%252f{target}", f"file:///etc/{target}"]
    return [*up, *encoded, *slashed, *absolute]


def test_no_path_leads_out_of_the_artifact_folder(
    servers: dict[str, Server], built: Repository, team_folder: Path, chaos: Chaos
) -> None:
    registration = files.read_json(built.paths.registration)
    experiment = json.loads(servers["team"].ask("POST", "/api/2.0/mlflow/experiments/create", b'{"name": "mine"}')[1])
    created = servers["team"].ask("POST", "/api/2.0/mlflow/runs/create", json.dumps(experiment).encode())[1]
    runs = {"ui": registration["run_id"], "team": json.loads(created)["run"]["info"]["run_id"]}
    content = b"of the run"
    uploaded = "/api/2.0/mlflow-artifacts/artifacts/{}/{}/artifacts/mine.txt".format(experiment["experiment_id"], runs["team"])
    assert servers["team"].ask("PUT", uploaded, content)[0] == 200
    assert servers["team"].ask("GET", f"/get-artifact?run_uuid={runs['team']}&path=mine.txt")[1] == content
    assert servers["ui"].ask("GET", f"/get-artifact?run_uuid={runs['ui']}&path=params.yaml")[0] == 200
    assert servers["ui"].ask("PUT", "/api/2.0/mlflow-artifacts/artifacts/mine.txt", content)[0] == 503

    tries = survived = lost = 0
    for name, targets in {"ui": ["params.yaml", "mlflow.db", "passwd"], "team": ["secret.txt", "server.db", "passwd"]}.items():
        server, run = servers[name], runs[name]
        routes = [
            "/get-artifact?run_uuid={run}&path={path}",
            "/model-versions/get-artifact?name=mnist-dense&version=1&path={path}",
            "/ajax-api/2.0/mlflow/get-artifact?run_id={run}&path={path}",
            "/api/2.0/mlflow-artifacts/artifacts/{path}",
            "/api/2.0/mlflow-artifacts/artifacts?path={path}",
            "/api/2.0/mlflow/artifacts/list?run_id={run}&path={path}",
            "/static-files/{path}",
        ]
        attempts = [(route, path) for target in targets for path in escapes(target) for route in routes]
        for route, path in attempts[:: chaos.tries(12, 1)]:
            _, body, _ = server.ask("GET", route.format(run=run, path=path))
            leaked = any(mark in body for mark in (SECRET.encode(), b"SQLite format 3", b"root:", b"# Every choice"))
            tries, survived, lost = tries + 1, survived + (not leaked), lost + leaked
        for path in escapes("planted.txt")[:: chaos.tries(4, 1)]:
            server.ask("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{path}", b"evil")
            tries, survived = tries + 1, survived + (not written_outside(built, team_folder))
        assert server.ask(*server.good)[0] == 200

    chaos.count(KIND, "an artifact path that leads out of the artifact folder", tries, survived, lost)


def written_outside(built: Repository, team_folder: Path) -> list[Path]:
    """Return the files that an upload wrote outside the artifacts of the team's server."""
    around = [built.paths.root.parent, team_folder.parent, ROOT]
    planted = [file for folder in around for depth in ("", "*/") for file in folder.glob(f"{depth}*planted.txt")]
    return [*planted, *Path("/").glob("planted.txt"), *Path("/etc").glob("planted.txt")]


def routes_of_mlflow(folder: Path) -> list[tuple[str, str]]:
    """Return method and path of every route of MLflow's server, listed in a separate process."""
    code = (
        "import json; from mlflow.server import app; from mlflow.server.fastapi_app import app as fast\n"
        "flask = [(sorted(r.methods - {'HEAD', 'OPTIONS'}), r.rule) for r in app.url_map.iter_rules()]\n"
        "paths = fast.openapi()['paths']\n"
        "print(json.dumps(flask + [([m.upper() for m in methods], path) for path, methods in paths.items()]))"
    )
    environment = os.environ | {"MLFLOW_LOGGING_LEVEL": "ERROR", "MLFLOW_TRACKING_URI": "sqlite://"}
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment, cwd=folder
    )
    return [(method, path) for methods, path in json.loads(done.stdout.splitlines()[-1]) for method in methods]


def test_requests_without_the_password_are_refused(servers: dict[str, Server], tmp_path: Path, chaos: Chaos) -> None:
    """Try every route of the team's server, and the exposed model server."""
    public = {
        "/health",
        "/version",
        "/api/3.0/mlflow/server-info",
        "/ajax-api/3.0/mlflow/server-info",
    }  # MLflow answers these without a password on purpose
    routes = [entry for entry in routes_of_mlflow(tmp_path) if entry[1] not in public]
    assert len(routes) > 200
    wrong = ["", basic("admin", "password1234"), basic("admin", ""), basic("", ""), "Basic", "Bearer x", f"Bearer {SECRET}"]
    tries = survived = 0
    for credentials in wrong[: chaos.tries(1, len(wrong))]:
        # MLflow answers 500 to credentials without a user name. It is slow to check a user, so most get every fifth route.
        refusals = (401, 404, 405, 500) if credentials.startswith("Bearer") else (401, 404, 405)
        for method, rule in routes[:: 1 if chaos.tries(0, 1) and not credentials else 5]:
            path = rule.replace("<path:", "<").translate(str.maketrans("<>{}", "1111")).replace(" ", "")
            status, *_ = servers["team"].ask(method, path, b"{}", Authorization=credentials)
            tries, survived = tries + 1, survived + (status in refusals)
    server = servers["serve"]
    for credentials in (*wrong[:-1], basic("admin", SECRET), f"Bearer {SECRET}x", f"Bearer {SECRET[:-1]}", SECRET, "Bearer é"):
        tries, survived = tries + 1, survived + (server.ask(*server.good, Authorization=credentials)[0] == 401)

    chaos.count(KIND, "a request without the password or token", tries, survived)


def test_a_wrong_password_is_reported_before_training(
    built: Repository, servers: dict[str, Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, uri = Paths(tmp_path / "tree"), f"http://127.0.0.1:{servers['team'].port}"
    shutil.copytree(built.paths.root, paths.root, ignore=shutil.ignore_patterns("mlruns", "source"))
    before = files.sha256(paths.keras)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", f"not {SECRET}")

    with pytest.raises(CredentialsError) as caught:
        train.run(built.params, paths)

    assert f"MLflow store {uri}: expected valid credentials, found user or password wrong" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert files.sha256(paths.keras) == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "expected EXPOSE=1"),
        ({"EXPOSE": "1"}, "expected HOSTS"),
        ({"EXPOSE": "1", "HOSTS": "*"}, "found *"),
        ({"EXPOSE": "1", "HOSTS": "a.example, *"}, "found *"),
        ({"EXPOSE": "1", "HOSTS": "a.example", "PASSWORD": ""}, "PASSWORD"),
    ],
)
def test_the_teams_server_is_exposed_only_with_confirmation_host_names_and_password(
    settings: dict[str, str], message: str
) -> None:
    needed = {"STORE": "sqlite://", "ARTIFACTS": "a", "PASSWORD": SECRET, "SECRET": "s", "HOST": "0.0.0.0"}  # noqa: S104 - refused

    done = subprocess.run(
        [ROOT / "team" / "server.sh"], env={"PATH": os.environ["PATH"]} | needed | settings, capture_output=True, text=True
    )

    assert done.returncode != 0
    assert message in done.stderr


@pytest.mark.parametrize(
    ("arguments", "token", "message"),
    [
        ((), SECRET, "expected --expose"),
        (("--expose", " , "), SECRET, "expected --expose"),
        (("--expose", NAME), "", "expected a token of at least 16 characters in SERVE_TOKEN, found one of 0"),
        (("--expose", NAME), "short", "found one of 5"),
    ],
)
def test_the_model_server_is_exposed_only_with_host_names_and_a_token(
    built: Repository, arguments: Sequence[str], token: str, message: str
) -> None:
    command = [sys.executable, "-m", "pipeline.serve", "--host", "0.0.0.0", *arguments]  # noqa: S104 - refused
    environment = os.environ | {"PYTHONPATH": str(ROOT), TOKEN: token}

    done = subprocess.run(command, cwd=built.paths.root, env=environment, capture_output=True, text=True, timeout=120)

    assert done.returncode == 1
    assert message in done.stderr


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return open, (str(self.marker), "w")


def test_no_array_of_objects_is_unpickled(built: Repository, tmp_path: Path, chaos: Chaos) -> None:
    marker, objects = tmp_path / "ran", np.empty((2, 28, 28), dtype=object)
    objects[:] = Evil(marker)
    np.save(tmp_path / "images.npy", objects)
    np.savez(tmp_path / "images.npz", images=objects, labels=objects[:, 0, 0], epochs=objects, weights_0=objects)
    with contextlib.suppress(Exception):
        np.load(tmp_path / "images.npy", allow_pickle=True)
    assert marker.exists(), "the attack does not work"
    marker.unlink()
    shutil.copytree(built.paths.raw, tmp_path / "data" / "raw")
    shutil.copy(tmp_path / "images.npy", tmp_path / "data" / "raw" / "train_images.npy")

    def from_npz() -> None:
        with (tmp_path / "images.npz").open("rb") as stream:
            npz.decode(stream, {"images": (3, tmp_path / "out.npy")}, 10**9)

    readers: list[Callable[[], Any]] = [
        lambda: image_files.read(tmp_path / "images.npy", (28, 28)),
        lambda: image_files.read(tmp_path / "images.npz", (28, 28)),
        lambda: image_files.read_arrays(tmp_path / "images.npz", (28, 28)),
        lambda: datasets.load(Paths(tmp_path), "train"),
        lambda: snapshots.load(tmp_path / "images.npz"),
        lambda: snapshots.load_distorted(tmp_path / "images.npy"),
        from_npz,
    ]
    refused = 0
    for read in readers:
        with pytest.raises((PipelineError, IdxError)):
            read()
        refused += 1

    chaos.count(KIND, "an npy or npz file with a pickle", len(readers), refused, int(marker.exists()))


def altered_network(edit: Callable[[Any], Any], path: Path, base: Path) -> None:
    """Copy the `.keras` file `base` to `path` with its config.json changed."""
    with zipfile.ZipFile(base) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, json.dumps(edit(json.loads(content))) if name == "config.json" else content)


def keras_attacks(marker: Path) -> dict[str, Callable[[Any], Any]]:
    """Return changes to the config.json of a network that make loading it run code."""
    unpickled = base64.b64encode(pickle.dumps(Evil(marker))).decode()
    unsafe = {"module": "keras.config", "class_name": "function", "config": "enable_unsafe_deserialization"}
    fetched = {"module": "keras.utils", "class_name": "function", "config": "get_file"}
    called = {"origin": marker.as_uri(), "fname": str(marker)}

    def layer(class_name: str, config: dict[str, Any], module: str = "keras.layers") -> Callable[[Any], Any]:
        def edit(content: Any) -> Any:
            content["config"]["layers"][1] |= {"module": module, "class_name": class_name, "config": config}
            return content

        return edit

    def activation(content: Any) -> Any:
        dense = next(each for each in content["config"]["layers"] if each["class_name"] == "Dense")
        dense["config"]["activation"] = {"module": "builtins", "class_name": "function", "config": "exec"}
        return content

    return {
        "another module's class": layer("Popen", {"args": ["touch", str(marker)]}, "subprocess"),
        "a module in the same folder": layer("X", {}, "evil_module"),
        "a pickled module of PyTorch": layer("TorchModuleWrapper", {"name": "t", "module": unpickled}),
        "a builtin as activation": activation,
        "safe mode switched off": layer("Lambda", {"name": "l", "function": unsafe, "arguments": {}}),
        "a download": layer("Lambda", {"name": "l", "function": fetched, "arguments": called}),
        "no network at all": lambda _: {"module": "os", "class_name": "system", "config": f"touch {marker}"},
    }


def test_no_code_in_a_keras_file_is_run(
    built: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chaos: Chaos
) -> None:
    import keras

    from pipeline.training import network

    marker = tmp_path / "ran"
    (tmp_path / "evil_module.py").write_text(f"open({str(marker)!r}, 'w')\nclass X: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, edit in keras_attacks(marker).items():
        altered_network(edit, tmp_path / f"{name}.keras", built.paths.keras)
    path = str(marker)
    inside = keras.Sequential(
        [keras.Input((2,)), keras.layers.Lambda(lambda x: (__import__("pathlib").Path(path).touch(), x)[1])]
    )
    inside.save(tmp_path / "code of Python.keras")
    marker.unlink(missing_ok=True)
    with contextlib.suppress(Exception):
        keras.saving.load_model(tmp_path / "code of Python.keras", safe_mode=False)
    assert marker.exists(), "the attack does not work"
    marker.unlink()
    planted = sorted(tmp_path.glob("*.keras"))

    refused = 0
    for file in planted:
        with pytest.raises(PipelineError, match="expected a network saved by train"):
            network.load(file)
        refused += 1

    chaos.count(KIND, "a Keras file with code", len(planted), refused, int(marker.exists()))


def mlmodels(marker: Path) -> dict[str, Callable[[Any], Any]]:
    """Return changes to an MLmodel file that make MLflow load something other than plain ONNX."""

    def function(**settings: Any) -> Callable[[Any], Any]:
        return lambda content: content["flavors"]["python_function"].update(settings)

    def onnx(**settings: Any) -> Callable[[Any], Any]:
        return lambda content: content["flavors"]["onnx"].update(settings)

    def flavour(**settings: Any) -> Callable[[Any], Any]:
        return lambda content: content["flavors"].update(settings)

    return {
        "a pickle of scikit-learn": function(loader_module="mlflow.sklearn", data="model.pkl", serialization_format="pickle"),
        "a pickled function": function(loader_module="mlflow.pyfunc.model", python_model="model.pkl"),
        "a planted module": function(loader_module="evil_module", code="code"),
        "code beside ONNX": function(code="code"),
        "code of the ONNX flavour": onnx(code="code"),
        "another file": function(data="../model.onnx"),
        "a configuration": function(config={"a": 1}),
        "settings of the session": onnx(onnx_session_options={"extra_session_config": {"session.load_model_format": "ORT"}}),
        "another processor": onnx(providers=["TensorrtExecutionProvider"]),
        "a further flavour": flavour(sklearn={"pickled_model": "model.pkl"}),
        "no ONNX": lambda content: content["flavors"].pop("onnx"),
        "no loader": lambda content: content["flavors"]["python_function"].pop("loader_module"),
        "a list instead of flavours": lambda content: content.update(flavors=["onnx", "python_function"]),
    }


def plant(folder: Path, marker: Path, source: Path, edit: Callable[[Any], Any]) -> None:
    """Copy the model at `source` to `folder`, add the files that attacks would run, and change its MLmodel."""
    shutil.copytree(source, folder)
    (folder / "model.pkl").write_bytes(pickle.dumps(Evil(marker)))
    (folder / "code").mkdir()
    (folder / "code" / "evil_module.py").write_text(f"open({str(marker)!r}, 'w')\n")
    yaml = YAML(typ="safe")
    content = yaml.load(folder / "MLmodel")
    edit(content)
    yaml.dump(content, folder / "MLmodel")


def register(client: Any, name: str, folder: Path, tags: dict[str, str]) -> None:
    """Register the model in `folder` as champion."""
    version = client.create_model_version(name, folder.as_uri(), tags=tags)
    client.set_registered_model_alias(name, "champion", version.version)


def test_no_code_that_comes_with_a_registered_model_is_run(
    built: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chaos: Chaos
) -> None:
    """Serving and predicting open model.onnx alone, whatever MLmodel says."""
    params, paths = Params.model_validate(built.params), Paths(tmp_path)
    store = f"sqlite:///{paths.database}"
    paths.store.mkdir()
    mlflow.set_tracking_uri(built.paths.tracking_uri)
    monkeypatch.chdir(tmp_path)
    source = Path(mlflow.artifacts.download_artifacts("models:/mnist-dense@challenger", dst_path=str(tmp_path / "good")))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    client, marker, name = mlflow.MlflowClient(store, store), tmp_path / "ran", params.tracking.model
    client.create_registered_model(name)
    tags = {"onnx_sha256": files.sha256(source / "model.onnx"), "int8_sha256": files.sha256(source / "model.int8.onnx")}
    options = serve.parser().parse_args([])
    attacks = mlmodels(marker)
    plant(tmp_path / "control", marker, source, attacks["a planted module"])
    with contextlib.suppress(Exception):
        mlflow.pyfunc.load_model(str(tmp_path / "control"))
    assert marker.exists(), "the attack does not work"
    marker.unlink()

    served = 0
    for number, edit in enumerate(attacks.values()):
        plant(tmp_path / f"planted-{number}", marker, source, edit)
        register(client, name, tmp_path / f"planted-{number}", tags)
        assert serve.opened(options, params, paths)[0].sha256 == tags["onnx_sha256"]
        open_model(f"models:/{name}@champion", None, params, paths)
        served += not marker.exists()
    for altered in ({"onnx_sha256": "0" * 64}, {"int8_sha256": "0" * 64}):
        register(client, name, source, tags | altered)
        with pytest.raises(AlteredModelError):
            serve.opened(options, params, paths)
    shutil.copytree(source, tmp_path / "swapped")
    shutil.copy(source / "model.int8.onnx", tmp_path / "swapped" / "model.onnx")
    register(client, name, tmp_path / "swapped", tags | {"onnx_sha256": tags["int8_sha256"]})
    with pytest.raises(BrokenContractError, match="expected the SHA-256"):
        serve.opened(options, params, paths)
    register(client, name, source, tags | {"onnx_sha256": "0" * 64})
    with pytest.raises(PipelineError, match="expected the file with SHA-256 0000"):
        open_model(f"models:/{name}@champion", None, params, paths)

    chaos.count(KIND, "a registered model whose code MLflow would run", len(attacks) + 1, served + 1, int(marker.exists()))


def files_with(secret: str, root: Path, allowed: Sequence[str] = ()) -> list[str]:
    """Return the files under `root` that contain `secret`, as relative paths, except the `allowed` ones."""
    paths = [path for path in root.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    return sorted({path.relative_to(root).as_posix() for path in paths} - set(allowed))


@pytest.mark.skipif(not LONG, reason="runs many commands")
def test_credentials_are_neither_printed_nor_written_to_other_files(
    subset: dict[str, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chaos: Chaos
) -> None:
    """Credentials of the mirror, the git remote and the DVC remote are only in the files that configure them."""
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login someone password {SECRET}\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    unused_port, allowed = free_port(), [".dvc/config.local", ".git/config"]
    with web.serving() as site:
        for key, name in NAMES.items():
            split, kind = key.split("_")
            answer = web.content(idx(getattr(subset[split], kind)))
            site.answers[f"/{name}"] = web.to_whom(basic("someone", SECRET), answer)
        clone = make_clone(tmp_path / "clone", subset, {"fetch.sources": [site.url]})
        root = clone.paths.root
        git(root, "remote", "add", "origin", f"http://oauth2:{SECRET}@127.0.0.1:{unused_port}/repository.git")
        clone.run(
            "dvc", "remote", "add", "--local", "--default", "store", f"http://someone:{SECRET}@127.0.0.1:{unused_port}/store"
        )
        done = [clone.run("dvc", "repro", "--single-item", "fetch"), clone.run("dvc", "push")]
    printed = "".join(each.stdout + each.stderr for each in done)
    assert (done[0].returncode, done[1].returncode == 0) == (0, False), printed
    publisher = Publisher(root)
    branch = Upstream(publisher, "origin", "main").push_branch
    for publish in (lambda: publisher.dvc("push"), lambda: publisher.git("push", "origin", "HEAD"), branch):
        with pytest.raises(RepositoryError) as failed:
            publish()
        printed += str(failed.value)
    lost = [SECRET in printed, *files_with(SECRET, root, allowed)]
    tries = 5

    address = f"http://someone:{SECRET}@127.0.0.1:{unused_port}/"
    faults: list[dict[str, Any]] = [
        {"fetch.sources": [address]},
        {"fetch.sources": [f"https://example.org/?X-Amz-Signature={SECRET}"]},
        {"fetch.sources": [f"https://example.org/?a=1&access_token={SECRET}"]},
        {"fetch.sources": address},
        {"fetch.extra": [{"name": "a", "source": f"{address}a.npz", "sha256": None}]},
        {"fetch.extra": address},
        {"fetch.timeout": address},
    ]
    for changes in faults[: chaos.tries(1, len(faults))]:
        git(root, "checkout", "--quiet", "params.yaml")
        with contextlib.suppress(PipelineError):
            edit_params(clone.paths.params, changes)
        refused = clone.run("dvc", "repro", "--single-item", "fetch")
        printed = refused.stdout + refused.stderr
        assert "fetch." in printed
        assert "expected" in printed
        assert refused.returncode != 0
        lost += [SECRET in printed, *files_with(SECRET, root, [*allowed, "params.yaml"])]
        tries += 1

    leaks = sum(map(bool, lost))
    chaos.count(KIND, "a password of a mirror, of git or of DVC, in use and in errors", tries, tries, leaks)


@pytest.mark.skipif(not LONG, reason="runs commands against a server with a password")
def test_the_password_of_the_store_is_neither_printed_nor_written(
    built: Repository, servers: dict[str, Server], team_folder: Path, tmp_path: Path, chaos: Chaos
) -> None:
    copy = tmp_path / "tree"
    shutil.copytree(built.paths.root, copy, ignore=shutil.ignore_patterns("mlruns", "source"))
    unused_port, team = free_port(), servers["team"].port
    user = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": SECRET}
    settings: list[tuple[dict[str, str], bool]] = [
        ({"MLFLOW_TRACKING_URI": f"http://admin:{SECRET}@127.0.0.1:{team}"}, True),
        ({"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{team}"} | user, True),
        (
            {"MLFLOW_TRACKING_URI": f"http://admin:{SECRET}@127.0.0.1:{unused_port}", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"},
            False,
        ),
        ({"MLFLOW_TRACKING_URI": f"http://admin:{SECRET}x@127.0.0.1:{team}"}, False),
        ({"MLFLOW_TRACKING_URI": f"postgresql://admin:{SECRET}@127.0.0.1:{unused_port}/mlflow"}, False),
        ({"MLFLOW_TRACKING_URI": f"nonsense://admin:{SECRET}@127.0.0.1:{unused_port}/mlflow"}, False),
    ]
    chosen = settings if chaos.tries(0, 1) else [settings[0], settings[3]]
    lost: list[Any] = []
    for environment, succeeds in chosen:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.register"],
            cwd=copy,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert (done.returncode == 0) is succeeds, done.stderr
        lost += [SECRET in done.stdout + done.stderr, *files_with(SECRET, copy)]
        lost += files_with(SECRET, team_folder, ["secret.txt"])

    chaos.count(KIND, "the password of the MLflow store, in use and in errors", len(chosen), len(chosen), sum(map(bool, lost)))
