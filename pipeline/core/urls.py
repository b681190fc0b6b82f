"""Addresses as they may be shown."""

from urllib.parse import urlsplit, urlunsplit


def redacted(address: str) -> str:
    """A URL without the credentials, query and fragment that it may carry; anything else as it is."""
    if "://" not in address:
        return address
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
