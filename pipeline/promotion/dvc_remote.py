"""Where DVC keeps the outputs, and whether clones know it.

`.dvc/config` is in git, so every clone has it. `.dvc/config.local` belongs to one checkout: credentials belong there, and an
address that stands only there is unknown to everyone else.
"""

import os
import re
from pathlib import Path
from typing import Any

from pipeline.core.urls import carries_secret, redacted
from pipeline.promotion.errors import DvcRemoteError
from pipeline.promotion.repository import Repository

CONFIG = ".dvc/config"
LOCAL = ".dvc/config.local"
_NAME = "store"
_SECRETS = (  # options of DVC's remotes
    *("account_key", "client_secret", "connection_string", "custom_auth_header", "gdrive_client_secret", "oss_key_secret"),
    *("passphrase", "password", "sas_token", "secret_access_key", "session_token", "sse_customer_key", "token"),
)


def address(root: Path) -> str | None:
    """The address of the default remote of this checkout, from all of its configuration; None without one."""
    from dvc.config import Config

    return _default(Config(str(root / ".dvc"), validate=False).read())


def recorded(root: Path) -> str | None:
    """The address of the default remote that clones see, from .dvc/config; None without one."""
    from dvc.config import Config

    return _default(Config(str(root / ".dvc"), validate=False).read("repo"))


def check_recorded(root: Path) -> None:
    """Refuse to publish outputs that no clone could find.

    Raises:
        DvcRemoteError: .dvc/config names no remote.
    """
    if recorded(root):
        return
    if known := address(root):
        todo = f"Record it for everybody: `make remote URL={redacted(known)}`. Credentials stay in {LOCAL}."
        raise DvcRemoteError(f"its address in {CONFIG}, which clones have", f"it only in {LOCAL}", todo)
    todo = "Record a folder, ssh:// or s3:// address: `make remote URL=...`."
    raise DvcRemoteError(f"an address in {CONFIG}, from which clones pull the model", "none", todo)


def check_public(root: Path) -> None:
    """Refuse to commit credentials that stand beside the address.

    Raises:
        DvcRemoteError: .dvc/config contains credentials.
    """
    for name, options in _remotes(root, "repo").items():
        for option, value in options.items():
            if option in _SECRETS or _carries_secret(str(value)):
                todo = (
                    f"Keep them in {LOCAL}: `dvc remote modify --unset {name} {option}`, then "
                    f"`dvc remote modify --local {name} {option} ...`. Revoke them if they were committed."
                )
                expected = f"{CONFIG} without credentials, because it is in git"
                raise DvcRemoteError(expected, f"{option} of {name}", todo)


def record(repository: Repository, url: str) -> str:
    """Write the address to .dvc/config as the default remote, and return it. .dvc/config.local keeps the credentials only.

    Raises:
        DvcRemoteError: the address contains credentials, or .dvc/config does.
    """
    if _carries_secret(url):
        option = "secret_access_key" if url.startswith("s3://") else "password"
        todo = f"Record the address without them, and add them with `dvc remote modify --local {_NAME} {option} ...`."
        raise DvcRemoteError(f"an address without credentials, because {CONFIG} is in git", redacted(url), todo)
    check_public(repository.root)
    target = url if re.match(r"\w+://", url) else os.path.abspath(url)  # DVC would store a folder relative to this checkout
    known = _remotes(repository.root, "repo").get(_NAME, {}).get("url", "")
    if known and _scheme(known) == _scheme(target):  # keep the other settings, such as endpointurl
        repository.dvc("remote", "modify", _NAME, "url", target)
        repository.dvc("remote", "default", _NAME)
    else:
        repository.dvc("remote", "add", "--force", "--default", _NAME, target)
    _forget_local_address(repository)
    return target


def _forget_local_address(repository: Repository) -> None:
    """Remove the address from .dvc/config.local, where it would override the one in .dvc/config."""
    from dvc.config import Config

    config = Config(str(repository.root / ".dvc"), validate=False)
    local: Any = config.read("local") if (repository.root / LOCAL).exists() else {}
    if local.get("remote", {}).get(_NAME, {}).get("url"):
        repository.dvc("config", "--local", "--unset", f"remote.{_NAME}.url")
    if local.get("core", {}).get("remote"):
        repository.dvc("config", "--local", "--unset", "core.remote")


def _carries_secret(url: str) -> bool:
    return carries_secret(re.sub(r"^(ssh|sftp)://[^/:@]+@", r"\1://", url))  # a user's name alone is no secret


def _scheme(url: str) -> str:
    return url.partition("://")[0] if "://" in url else ""


def _remotes(root: Path, level: str) -> dict[str, dict[str, Any]]:
    from dvc.config import Config

    return dict(Config(str(root / ".dvc"), validate=False).read(level).get("remote", {}))


def _default(config: Any) -> str | None:
    name = config.get("core", {}).get("remote")
    return (config.get("remote", {}).get(name, {}).get("url") or None) if name else None
