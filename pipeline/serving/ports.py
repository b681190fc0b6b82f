"""Check whether a server can listen on a port of this machine."""

import socket

HOST = "127.0.0.1"  # reachable from this machine only


def problem(port: int, target: str, host: str = HOST) -> str | None:
    """Explain why `make target` cannot listen on `port`, and what to do; None if it can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            found = getattr(error, "strerror", None) or "no such port"
            another = port % 65535 + 1
            return f"port {port}: expected it to be free, found: {found}. Choose another: `make {target} PORT={another}`."
    return None
