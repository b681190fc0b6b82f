"""Addresses as they may be shown."""

import re

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_QUERY = re.compile(r"(://[^\s?#'\"]*)[?#][^\s'\"]*")
_SECRET = re.compile(r"[?&#;][^=&;]*(auth|credential|key|pass|pwd|secret|sig|token)[^=&;]*=", re.IGNORECASE)


def redacted(address: str) -> str:
    """A URL without the credentials, query and fragment that it may carry; anything else as it is."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    authority, slash, path = re.split("[?#]", rest, maxsplit=1)[0].partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


def redacted_text(text: str) -> str:
    """A message without the credentials, queries and fragments of the URLs in it."""
    return _QUERY.sub(r"\1", _CREDENTIALS.sub("", text))


def carries_secret(address: str) -> bool:
    """Whether a URL holds a user or a password, or a query that is named as a secret is."""
    return "://" in address and bool(_CREDENTIALS.search(address) or _SECRET.search(address))
