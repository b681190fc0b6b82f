"""Ports of this machine that a server of ours may take."""

import socket

HOST = "127.0.0.1"  # nobody else's business


def problem(port: int, target: str, host: str = HOST) -> str | None:
    """Why nothing can listen on `port`, and what to say to `make target` instead; None where all is well."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            found = getattr(error, "strerror", None) or "no such port"
            another = port % 65535 + 1
            return f"port {port}: expected it to be free, found: {found}. Choose another: `make {target} PORT={another}`."
    return None
