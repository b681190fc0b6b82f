"""Remove credentials from URLs before they are printed or stored."""

import re

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_QUERY = re.compile(r"(://[^\s?#'\"]*)[?#][^\s'\"]*")
_SECRET = re.compile(r"[?&#;][^=&;]*(auth|credential|key|pass|pwd|secret|sig|token)[^=&;]*=", re.IGNORECASE)


def redacted(address: str) -> str:
    """Remove credentials, query and fragment from a URL. Other text is returned unchanged."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    authority, slash, path = re.split("[?#]", rest, maxsplit=1)[0].partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


def redacted_text(text: str) -> str:
    """Remove credentials, queries and fragments from all URLs in `text`."""
    return _QUERY.sub(r"\1", _CREDENTIALS.sub("", text))


def carries_secret(address: str) -> bool:
    """Whether a URL contains a user, a password, or a query parameter whose name suggests a secret."""
    return "://" in address and bool(_CREDENTIALS.search(address) or _SECRET.search(address))
